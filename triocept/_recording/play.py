"""Playback of a recorded answer: whole, in its increments, or up to where it broke.

Rules:

1. The recorded answer is played verbatim, including stop reason and usage. An agent decides by its usage when to
   compact its history.
2. A refusal is refused again, and a failure fails again with its status.
3. An agent that disconnected gets at least as long to disconnect again, at any pace: it disconnects by its own clock.
"""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

import trio

from .._canonical.events import PartEnd
from .._rollout.exchange import Exchange, core_of
from .._util.checks import check_choice, check_number
from ..errors import ContextLengthError, Refusal, UpstreamError, UpstreamTruncated
from .answer import Answer, Failure
from .pieces import Piece, pieces_of

Timing: TypeAlias = Literal["none", "recorded"] | float
"""Time of an answer: at once, as recorded, or the recorded time multiplied by a number."""
HANG_UP = 10.0
"""Seconds beyond the recorded time for an agent to disconnect from an answer again."""
_PROVIDER = {"upstream": UpstreamError, "truncated": UpstreamTruncated, "context_length": ContextLengthError}


class StillThere(Exception):
    """The recorded agent disconnected from this answer; the live agent has not."""


def pace_of(timing: Timing) -> float:
    """Return the factor by which recorded times are multiplied.

    Raises:
        TypeError, ValueError: `timing` is not a timing.
    """
    if isinstance(timing, str):
        check_choice("timing, where it is no number,", timing, Literal["none", "recorded"])
        return 1.0 if timing == "recorded" else 0.0
    check_number("timing", timing)
    return float(timing)


async def give(exchange: Exchange, answer: Answer, pace: float) -> None:
    """Give an exchange a recorded answer.

    Args:
        exchange: the exchange.
        answer: the recorded answer.
        pace: factor for its times; 0: everything at once.

    Raises:
        Refusal, UpstreamError: the recorded outcome.
        StillThere: the recorded agent disconnected, and this agent does not.
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
        async with exchange.open_stream() as stream:
            for piece in _broken_off(pieces) if breaks else pieces:
                await trio.sleep_until(begun + piece.at * pace)
                await stream.send(piece.event)
            if breaks:
                await _end_badly(answer, begun, pace)


def _broken_off(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces without the ends of the answer and of its last part: an agent might run a call at its end."""
    del pieces[-1:]
    if pieces and isinstance(pieces[-1].event, PartEnd):
        del pieces[-1:]
    return pieces


async def _end_badly(answer: Answer, begun: float, pace: float) -> NoReturn:
    if answer.hung_up:
        await trio.sleep_until(begun + answer.duration + HANG_UP)
        raise StillThere
    await trio.sleep_until(begun + answer.duration * pace)
    assert answer.failure is not None
    raise _error(answer.failure)


def _error(failure: Failure) -> Refusal | UpstreamError:
    if failure.kind == "refusal":
        return Refusal(
            failure.status,
            failure.message,
            retry_after=failure.retry_after,
            should_retry=failure.should_retry,
            code=failure.code,
        )
    headers = {"retry-after": _seconds(failure.retry_after)} if failure.retry_after is not None else {}
    if failure.should_retry is not None:
        headers["x-should-retry"] = str(failure.should_retry).lower()
    return _PROVIDER[failure.kind](
        failure.message,
        status=failure.status,
        body=failure.body,
        headers=headers,
        code=failure.code,
        dialect=failure.dialect,
    )


def _seconds(seconds: float) -> str:
    return str(int(seconds)) if seconds.is_integer() else str(seconds)
