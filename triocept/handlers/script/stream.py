"""An answer in chosen pieces, at a chosen pace.

Rules:

1. What is one piece here is one increment on the wire; tool calls wait for the end of their answer, as ever.
2. The pauses are trio's: a mock clock jumps over them, and a hang-up of the agent ends them.
3. An agent that did not ask for a stream gets the whole, after the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import trio

from ..._canonical.events import Event, PartDelta, ResponseEnd, ResponseStart, part_events
from ..._canonical.given import given_event, given_increment, given_response
from ..._canonical.response import Response, ResponsePart, StopReason, Usage
from ..._rollout.exchange import Exchange
from ..._util.checks import check_count, check_number, described

Piece: TypeAlias = str | ResponsePart | Event
"""What `stream.send` takes: a `str` goes on with the text, a part is sent whole, an event as it is."""

CHARACTERS_OF_A_TOKEN = 4
"""As everywhere where nobody counts."""


@dataclass(frozen=True)
class _Step:
    """Pieces that are sent at once, after a pause of so many seconds."""

    pause: float
    pieces: tuple[Piece, ...]


@final
class Stream:
    """An answer of a script in these pieces: `Stream("Hel", "lo", delay=0.1)`.

    Args:
        pieces: texts, parts or events, each an increment of its own.
        delay: seconds between two pieces.
        first_after: seconds before the first.
        stop_reason: None: by content.
        usage: None: an estimate.

    Raises:
        TypeError, ValueError: something is no piece of an answer, or no time.
    """

    def __init__(
        self,
        *pieces: Piece,
        delay: float = 0.0,
        first_after: float = 0.0,
        stop_reason: StopReason | None = None,
        usage: Usage | None = None,
    ) -> None:
        check_number("Stream: delay", delay)
        check_number("Stream: first_after", first_after)
        if not pieces:
            raise TypeError("Stream takes the pieces of an answer: Stream('Hel', 'lo')")
        for number, piece in enumerate(pieces):
            _check(piece, number)
        self._steps: tuple[_Step, ...] = tuple(
            [_Step(delay if number else first_after, (piece,)) for number, piece in enumerate(pieces)]
        )
        self._stop_reason = stop_reason
        self._usage = usage
        given_event(ResponseEnd(stop_reason, None, usage))  # says what is wrong

    async def __call__(self, exchange: Exchange) -> None:
        """Answer so; raises and is cancelled as `ResponseStream.send`."""
        async with exchange.open_stream() as stream:
            for step in self._steps:
                await trio.sleep(step.pause)
                for piece in step.pieces:
                    await stream.send(piece)
            if not stream.ended:
                await stream.end(stop_reason=self._stop_reason, usage=self._usage)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._steps)

    def __repr__(self) -> str:
        pieces = [repr(piece) for step in self._steps for piece in step.pieces]
        return f"Stream({', '.join(pieces)})"

    @property
    def _key(self) -> tuple[object, ...]:
        return self._steps, self._stop_reason, self._usage


def paced(
    answer: str | ResponsePart | Response | Sequence[str | ResponsePart],
    *,
    characters: int = CHARACTERS_OF_A_TOKEN,
    tokens_per_second: float | None = None,
    first_after: float = 0.0,
) -> Stream:
    """A whole answer as a stream of pieces of so many characters: `paced("It rains.", tokens_per_second=40)`.

    Texts, reasoning and the arguments of tool calls are cut; what has no text is one piece. A tool call reaches the
    agent when the answer is whole, as in every stream here.

    Args:
        answer: a text, a part, a list of these, or a `Response`.
        characters: of one piece. Four are a token.
        tokens_per_second: None: as fast as they are taken.
        first_after: seconds before the first piece.

    Raises:
        TypeError, ValueError: that is no answer, or no pace.
    """
    check_number("paced: first_after", first_after)
    check_count("paced: characters", characters, least=1)
    if tokens_per_second is not None:
        check_number("paced: tokens_per_second", tokens_per_second, positive=True)
    delay = characters / CHARACTERS_OF_A_TOKEN / tokens_per_second if tokens_per_second is not None else 0.0
    return timed(answer, characters, lambda number: delay if number else first_after)


def timed(
    answer: str | ResponsePart | Response | Sequence[str | ResponsePart],
    characters: int,
    pause: Callable[[int], float],
) -> Stream:
    """The same with a pause of so many seconds before each piece, by its number."""
    response = _response(answer)
    groups = _cut(response, characters)
    stream = Stream(*[piece for group in groups for piece in group])
    stream._steps = tuple([_Step(pause(number), group) for number, group in enumerate(groups)])
    stream._stop_reason, stream._usage = response.stop_reason, response.usage
    return stream


def _response(answer: str | ResponsePart | Response | Sequence[str | ResponsePart]) -> Response:
    if isinstance(answer, str) or not isinstance(answer, Sequence):
        return given_response(answer)
    return given_response(Response.of(*answer))


def _cut(response: Response, characters: int) -> list[tuple[Event, ...]]:
    """The events of an answer, a group for each piece of text: what stands around it goes with it."""
    groups: list[tuple[Event, ...]] = []
    start = ResponseStart(response.id, response.model, extra=response.extra, dialect=response.dialect)
    before: list[Event] = [start]
    for index, part in enumerate(response.content):
        for event in part_events(index, part):
            if not isinstance(event, PartDelta):
                before.append(event)
                continue
            for at in range(0, len(event.text), characters):
                groups.append((*before, PartDelta(index, event.text[at : at + characters])))
                before = []
    return [*groups[:-1], (*groups[-1], *before)] if groups else [tuple(before)]


def _check(piece: object, number: int) -> None:
    if isinstance(piece, str):
        return
    try:
        given_increment(piece)
    except (TypeError, ValueError) as exc:
        raise type(exc)(
            f"Stream: piece {number} is no piece of an answer: {described(piece)} ({exc})"
        ) from None
