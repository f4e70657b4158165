"""A recorded answer, given again: whole, in its pieces, to where it broke."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import trio

from ..._rollout.exchange import Exchange, core_of
from ...errors import ContextLengthError, Refusal, UpstreamError, UpstreamTruncated
from ..play import HANG_UP, play
from .answer import Answer, Failure

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
    end_badly = None
    if answer.failure is not None or answer.hung_up:
        core_of(exchange).hold_calls = answer.holds_calls
        end_badly = partial(_end_badly, answer, trio.current_time(), pace)
    await play(exchange, answer, answer.response, pace, end_badly)


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
