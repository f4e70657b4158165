"""A recorded answer, given again: whole, in its pieces, to where it broke."""

from __future__ import annotations

from typing import NoReturn

import trio

from ..._canonical.events import PartEnd
from ..._rollout.exchange import Exchange, core_of
from ..._trace.replay.pieces import Piece, pieces_of
from ...errors import ContextLengthError, Refusal, UpstreamError, UpstreamTruncated
from .answer import Answer, Failure

__all__ = ["StillThere", "give"]

HANG_UP = 10.0
"""Seconds that an agent may wait longer than it did for an answer that it hung up on."""
_PROVIDER = {"upstream": UpstreamError, "truncated": UpstreamTruncated, "context_length": ContextLengthError}


class StillThere(Exception):
    """The agent had hung up on this answer, and does not now."""


async def give(exchange: Exchange, answer: Answer, pace: float) -> None:
    """Give an exchange a recorded answer.

    Args:
        exchange: it.
        answer: what it gets.
        pace: by how much the recorded times are multiplied; 0: everything at once.

    Raises:
        Refusal, UpstreamError: that was its outcome.
        StillThere: see there.
    """
    begun, response = trio.current_time(), answer.response
    if answer.failure is not None or answer.hung_up:
        if response is not None:
            core_of(exchange).hold_calls = answer.holds_calls
            async with exchange.open_stream() as stream:
                for piece in _without_end(answer):
                    await trio.sleep_until(begun + piece.at * pace)
                    await stream.send(piece.event)
                await _end_badly(answer, begun, pace)
        await _end_badly(answer, begun, pace)
    elif response is None or (answer.increments is None and (answer.first_event is None or not pace)):
        await trio.sleep_until(begun + answer.duration * pace)
        await exchange.respond(response or "")
    else:
        async with exchange.open_stream() as stream:
            for piece in pieces_of(answer, response):
                await trio.sleep_until(begun + piece.at * pace)
                await stream.send(piece.event)


def _without_end(answer: Answer) -> list[Piece]:
    """The pieces of an answer that broke: neither it nor its last part has an end."""
    assert answer.response is not None
    last = len(answer.response.content) - 1
    pieces = list(pieces_of(answer, answer.response))[:-1]
    return [piece for piece in pieces if piece.event != PartEnd(last)]


async def _end_badly(answer: Answer, begun: float, pace: float) -> NoReturn:
    if answer.hung_up:
        await trio.sleep_until(begun + answer.duration * pace + HANG_UP)
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
