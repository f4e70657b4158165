"""Play a recorded answer back: as a whole, in its increments, or up to the point where it broke off.

Rules:

1. A recorded answer is kept in its canonical form, not as a provider's bytes, so it can be sent in any dialect. No
   header is kept.
2. Ids of answers and of tool calls are not kept: each answer gets new ids in the format of its dialect.
3. The recorded answer is sent unchanged, with its stop reason and usage. The usage matters because an agent decides by
   it when to compact its history.
4. A refused call is refused again, and a failed call fails again, with the recorded status.
5. If the recorded agent disconnected, the playback waits until the live agent disconnects, for at least the recorded
   time. `timing` does not shorten this wait, because an agent disconnects by its own clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal, NamedTuple, NoReturn, TypeAlias

import msgspec
import trio

from .._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.events import Event, PartDelta, PartEnd, events_of, part_events
from .._canonical.response import Response, ResponsePart
from .._rollout.exchange import Exchange, core_of
from .._trace.increments import Increments
from .._util.checks import check_choice, check_number
from ..errors import ContextLengthError, Refusal, UpstreamError, UpstreamTruncated

FailureKind: TypeAlias = Literal["refusal", "upstream", "truncated", "context_length"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a call got no answer, or only a part of an answer."""

    kind: FailureKind
    """Kind of the failure. `refusal`: a handler refused the call. Any other kind: a provider failed."""
    status: int
    message: str
    retry_after: float | None = None
    """Seconds after which the agent may retry; None if unknown."""
    should_retry: bool | None = None
    code: str | None = None
    dialect: str = ""
    """Dialect in which `body` and `code` are written."""
    body: str = ""
    """The body of the provider's error response."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded outcome of a call."""

    response: Response | None = None
    """The answer; if the stream of the answer broke off, the part that was sent. None if nothing was sent."""
    failure: Failure | None = None
    hung_up: bool = False
    """True if the agent disconnected before the answer was complete."""
    holds_calls: bool = True
    """True if the tool calls of a streamed answer were sent only at its end."""
    increments: Increments | None = None
    """Pieces of a streamed answer; None if the answer was not streamed, or if its pieces were not recorded."""
    first_event: float | None = None
    """Seconds from the arrival of the call to the first event of the answer; None if unknown."""
    duration: float = 0.0
    """Seconds from the arrival of the call to the end of the answer."""


def same_content(one: Answer, other: Answer) -> bool:
    """Return True if `one` and `other` have equal content.

    Times, pieces, ids, and numbers of cached prompt tokens are not compared.
    """
    return _content(one) == _content(other)


def _content(answer: Answer) -> list[Json]:
    response, outcome = answer.response, [answer.failure, answer.hung_up, answer.holds_calls]
    if response is None:
        return outcome
    parts: list[Json] = []
    for part in response.content:
        match part:
            case ToolCall():
                parts.append(["call", part.name, part.arguments, part.kind])
            case Reasoning():
                parts.append(["reasoning", part.text, [(blob.dialect, blob.kind) for blob in part.blobs]])
            case Text() | RefusalText():
                parts.append([type(part).__name__, part.text])
            case Opaque(raw=raw):
                inner = {name: raw[name] for name in raw if name != "id"} if isinstance(raw, dict) else raw
                parts.append(["opaque", part.dialect, inner])
    usage = response.usage
    return [
        *(*outcome, parts, response.stop_reason, response.stop_sequence, response.model),
        None if usage is None else (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens),
    ]


class Piece(NamedTuple):
    """An event of an answer, and the time at which the event is sent."""

    at: float
    """Seconds from the arrival of the call until the event is sent."""
    event: Event


class _Part:
    """A part of an answer during its playback, and the number of its characters that were already sent."""

    def __init__(self, index: int, part: ResponsePart, recorded: int) -> None:
        self._index = index
        self._text = text_of(part)
        self._recorded = recorded
        """Number of characters that the part had when it was recorded. The text may be longer or shorter now, because
        the live agent's directories have replaced the recorded directories."""
        self._came = self._given = 0
        self.begin, *rest = part_events(index, part)
        self.rest = [event for event in rest if not isinstance(event, PartDelta)]

    @property
    def over(self) -> bool:
        return self._came >= self._recorded

    def take(self, length: int) -> Event:
        """Return an event with the next piece of the part.

        `length` is the number of characters that the piece had when it was recorded.
        """
        self._came += length
        until = round(self._came * len(self._text) / self._recorded)
        piece, self._given = self._text[self._given : until], until
        return PartDelta(self._index, piece)


def pieces_of(answer: Answer) -> Iterator[Piece]:
    """Yield the recorded pieces of an answer, each with its time.

    If no pieces were recorded, first yield the start of the answer. Then yield all other events, each with the time at
    which the recorded answer ended.
    """
    response = answer.response
    assert response is not None
    start, *rest = events_of(response)
    if answer.increments is None:
        yield Piece(answer.duration if answer.first_event is None else answer.first_event, start)
        yield from (Piece(answer.duration, event) for event in rest)
        return
    first = answer.increments.waits[0] / 1000
    yield Piece(first if answer.first_event is None else answer.first_event, start)
    parts = response.content
    lengths: Counter[int] = Counter()
    """Number of characters that each part had when it was recorded, by the part's index."""
    for index, length, _ in _cuts(answer.increments):
        lengths[index] += length
    begun: dict[int, _Part] = {}
    at, next_part = 0.0, 0
    for index, length, at in _cuts(answer.increments):
        # Begin the parts in their order, whichever part has the first piece.
        while next_part <= min(index, len(parts) - 1):
            part = parts[next_part]
            if lengths[next_part]:
                begun[next_part] = _Part(next_part, part, lengths[next_part])
                yield Piece(at, begun[next_part].begin)
            else:
                yield from _whole_part(at, next_part, part)
            next_part += 1
        if index in begun:
            yield Piece(at, begun[index].take(length))
            if begun[index].over:
                yield from (Piece(at, event) for event in begun[index].rest)
    for index in range(next_part, len(parts)):
        yield from _whole_part(at, index, parts[index])
    yield Piece(answer.duration, rest[-1])


def _whole_part(at: float, index: int, part: ResponsePart) -> Iterator[Piece]:
    yield from (Piece(at, event) for event in part_events(index, part))


def _cuts(increments: Increments) -> Iterator[tuple[int, int, float]]:
    """Yield the index of a part, a length, and the seconds since the call began, for each recorded piece."""
    parts = [part for part, count in increments.runs for _ in range(count)]
    times = accumulate(increments.waits)
    for part, length, time in zip(parts, increments.lengths, times, strict=False):
        yield part, length, time / 1000


def text_of(part: ResponsePart) -> str:
    if isinstance(part, Opaque):
        return ""
    return part.arguments if isinstance(part, ToolCall) else part.text


Timing: TypeAlias = Literal["none", "recorded"] | float
"""Time at which a recorded answer is sent. `none`: immediately. `recorded`: after the recorded time. A number: after
the recorded time multiplied by this number."""
HANG_UP = 10.0
"""Maximum seconds, in addition to the recorded time, for which the playback waits until the live agent disconnects, as
the recorded agent did."""
_PROVIDER = {"upstream": UpstreamError, "truncated": UpstreamTruncated, "context_length": ContextLengthError}


class StillThere(Exception):
    """Error: the recorded agent disconnected during this answer, but the live agent stays connected."""


def pace_of(timing: Timing) -> float:
    """Return the factor by which recorded times are multiplied.

    Raises:
        TypeError, ValueError: `timing` is neither `none` nor `recorded` nor a valid number.
    """
    if isinstance(timing, str):
        check_choice("timing must be a number; a text for timing", timing, Literal["none", "recorded"])
        return 1.0 if timing == "recorded" else 0.0
    check_number("timing", timing)
    return float(timing)


async def give(exchange: Exchange, answer: Answer, pace: float) -> None:
    """Answer `exchange` with a recorded answer.

    Args:
        exchange: the exchange.
        answer: the recorded answer.
        pace: factor by which the recorded times are multiplied. If it is 0, the answer is sent at once.

    Raises:
        Refusal, UpstreamError: the recorded failure.
        StillThere: the recorded agent disconnected, but the live agent is still connected.
    """
    begun, response = trio.current_time(), answer.response
    breaks = answer.failure is not None or answer.hung_up
    if breaks:
        core_of(exchange).hold_calls = answer.holds_calls
    if breaks and response is None:
        await _end_badly(answer, begun, pace)
    elif response is None or (
        not breaks and answer.increments is None and (answer.first_event is None or not pace)
    ):
        await trio.sleep_until(begun + answer.duration * pace)
        await exchange.respond(response or "")
    else:
        pieces = list(pieces_of(answer))
        if breaks:
            # Leave out the ends of the answer and of its last part: at the end of a tool call, an agent might run it.
            del pieces[-1:]
            if pieces and isinstance(pieces[-1].event, PartEnd):
                del pieces[-1:]
        async with exchange.open_stream() as stream:
            for piece in pieces:
                await trio.sleep_until(begun + piece.at * pace)
                await stream.send(piece.event)
            if breaks:
                await _end_badly(answer, begun, pace)


async def _end_badly(answer: Answer, begun: float, pace: float) -> NoReturn:
    if answer.hung_up:
        await trio.sleep_until(begun + answer.duration + HANG_UP)
        raise StillThere
    await trio.sleep_until(begun + answer.duration * pace)
    failure = answer.failure
    assert failure is not None
    retry_after, should_retry, code = failure.retry_after, failure.should_retry, failure.code
    if failure.kind == "refusal":
        raise Refusal(
            failure.status, failure.message, retry_after=retry_after, should_retry=should_retry, code=code
        )
    headers = {"retry-after": f"{retry_after:.15g}"} if retry_after is not None else {}
    if should_retry is not None:
        headers["x-should-retry"] = str(should_retry).lower()
    raise _PROVIDER[failure.kind](
        failure.message,
        status=failure.status,
        body=failure.body,
        headers=headers,
        code=code,
        dialect=failure.dialect,
    )
