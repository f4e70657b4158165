"""Replies that are streamed in pieces and at a pace that the author of the script chooses.

Rules:

1. Each piece is sent as one increment of the stream. As in every stream, the tool calls are sent when the answer is
   complete.
2. The pauses between pieces use trio's clock, so that a mock clock can skip them. If the agent disconnects, the current
   pause ends.
3. An agent that did not request a stream gets the complete answer after the time that the stream would have taken.
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
"""An argument of `stream.send`: a `str` is appended to the current text, a part is sent as a whole, an event is sent
unchanged."""

CHARACTERS_OF_A_TOKEN = 4
"""Estimated number of characters per token, because no tokenizer is available."""


@dataclass(frozen=True)
class _Step:
    """Pieces of an answer that are sent at the same time, and the seconds to wait before they are sent."""

    pause: float
    pieces: tuple[Piece, ...]


@final
class Stream:
    """A reply that is streamed in the given pieces: `Stream("Hel", "lo", delay=0.1)`.

    Args:
        pieces: texts, parts or events. Each piece is sent as one increment.
        delay: seconds between two pieces.
        first_after: seconds before the first piece.
        stop_reason: the stop reason. None means that the stop reason is derived from the content.
        usage: the token counts. None means that the counts are estimated.

    Raises:
        TypeError, ValueError: a piece is not part of an answer, or a duration is invalid.
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
            raise TypeError("Stream needs the pieces of an answer: write Stream('Hel', 'lo'), for example")
        for number, piece in enumerate(pieces):
            if not isinstance(piece, str):
                try:
                    given_increment(piece)
                except (TypeError, ValueError) as exc:
                    what = f"Stream: piece {number} is not a piece of an answer: {described(piece)} ({exc})"
                    raise type(exc)(what) from None
        self._steps: tuple[_Step, ...] = tuple(
            [_Step(delay if number else first_after, (piece,)) for number, piece in enumerate(pieces)]
        )
        self._stop_reason = stop_reason
        self._usage = usage
        given_event(ResponseEnd(stop_reason, None, usage))  # raises if an argument is invalid

    async def __call__(self, exchange: Exchange) -> None:
        """Answer the exchange with these pieces.

        Raise the same errors as `ResponseStream.send`. A cancellation has the same effect as for
        `ResponseStream.send`.
        """
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
    """Return a reply that streams `answer` in pieces of equal size: `paced("It rains.", tokens_per_second=40)`.

    Texts, reasoning and the arguments of tool calls are cut into pieces. A part without text is one piece. As in every
    stream, the agent gets the tool calls when the answer is complete.

    Args:
        answer: a text, a part, a list of these, or a `Response`.
        characters: characters per piece. Four characters count as one token.
        tokens_per_second: the pace of the stream. None means that the pieces are sent as fast as the agent reads.
        first_after: seconds before the first piece.

    Raises:
        TypeError, ValueError: `answer` is not an answer, or the pace is invalid.
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
    """Return a reply that streams `answer` in pieces, and waits `pause(number)` seconds before each piece."""
    if not isinstance(answer, str) and isinstance(answer, Sequence):
        answer = Response.of(*answer)
    response = given_response(answer)
    groups: list[tuple[Event, ...]] = []
    """Groups of events that are sent together: each contains one piece of text, and the events before or after it."""
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
    groups = [*groups[:-1], (*groups[-1], *before)] if groups else [tuple(before)]
    stream = Stream(*[piece for group in groups for piece in group])
    stream._steps = tuple([_Step(pause(number), group) for number, group in enumerate(groups)])
    stream._stop_reason, stream._usage = response.stop_reason, response.usage
    return stream
