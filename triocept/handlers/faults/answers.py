"""Answers that are right on the wire, and not what an application counts on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.given import given_response
from ..._canonical.response import Response, StopReason
from ..._checks import check_choice, check_count, check_type
from ..._rollout.exchange import Answerable, Exchange

__all__ = ["DEFAULT", "DEFAULT_CALL", "cut_arguments", "finish", "response_of"]

DEFAULT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."
"""What is cut where nobody said what: long enough for a dozen events."""
DEFAULT_CALL = ToolCall("search", '{"query":"the quick brown fox","limit":10}')
_REASONS: dict[str, StopReason] = {"length": "max_tokens", "content_filter": "refused"}


def response_of(answer: object) -> Response:
    """The answer that a fault was given.

    Raises:
        TypeError, ValueError: it is none; the text names the argument.
    """
    try:
        return given_response(answer)
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"answer: {exc}") from None


def finish(
    reason: Literal["length", "content_filter"], answer: Answerable
) -> Callable[[Exchange], Awaitable[None]]:
    """See `Fault.finish`."""
    check_choice("reason", reason, Literal["length", "content_filter"])
    given = msgspec.structs.replace(response_of(answer), stop_reason=_REASONS[reason])

    async def respond(exchange: Exchange) -> None:
        await exchange.respond(given)

    return respond


def cut_arguments(
    call: ToolCall, after: int | None, reason: Literal["length"] | None
) -> Callable[[Exchange], Awaitable[None]]:
    """See `Fault.cut_arguments`."""
    check_type("call", call, ToolCall, "a ToolCall")
    if reason is not None and reason != "length":
        raise ValueError(f"reason is 'length' or None, not {reason!r}")
    if len(call.arguments) < 2:
        raise ValueError(f"call has arguments that can be cut, not {call.arguments!r}")
    if after is not None:
        check_count("after", after, least=1)
        if after >= len(call.arguments):
            raise ValueError(
                f"after is less than the {len(call.arguments)} characters that there are, not {after}"
            )
    kept = len(call.arguments) // 2 if after is None else after
    cut = msgspec.structs.replace(call, arguments=call.arguments[:kept])
    given = given_response(Response((cut,), stop_reason="max_tokens" if reason else "tool_use"))

    async def respond(exchange: Exchange) -> None:
        await exchange.respond(given)

    return respond
