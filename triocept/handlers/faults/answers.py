"""Answers that are right on the wire, and not what an application counts on."""

from __future__ import annotations

from typing import Literal, Self

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.given import given_response
from ..._canonical.response import Response, StopReason
from ..._checks import check_choice, check_count, check_type
from ..._rollout.exchange import Answerable, Exchange
from .base import Act, BaseFault
from .told import DEFAULT, response_of

__all__ = ["DEFAULT_CALL", "OddAnswers"]

DEFAULT_CALL = ToolCall("search", '{"query":"the quick brown fox","limit":10}')
_REASONS: dict[str, StopReason] = {"length": "max_tokens", "content_filter": "refused"}


class OddAnswers(BaseFault):
    """Answers that nobody counts on."""

    __slots__ = ()

    @classmethod
    def finish(cls, reason: Literal["length", "content_filter"], answer: Answerable = DEFAULT) -> Self:
        """An answer that ends because it was too long, or because a filter has cut it, as its dialect says that."""
        check_choice("reason", reason, Literal["length", "content_filter"])
        given = msgspec.structs.replace(response_of(answer), stop_reason=_REASONS[reason])
        return cls("finish", {"reason": reason, "answer": answer}, _responding(given))

    @classmethod
    def cut_arguments(
        cls,
        call: ToolCall = DEFAULT_CALL,
        *,
        after: int | None = None,
        reason: Literal["length"] | None = None,
    ) -> Self:
        """A tool call whose arguments end in the middle: they are no JSON. Where a dialect has no text of arguments,
        but an object, its agent gets `{"_raw": …}`, with the text.

        Args:
            call: it, whole.
            after: characters of its arguments that come; None: half of them.
            reason: `length` where the answer says so; None: it says that a tool is to be called.

        Raises:
            TypeError, ValueError: an argument is not what it should be; or these arguments have no such middle.
        """
        kept = _middle(call, after)
        if reason is not None and reason != "length":
            raise ValueError(f"reason is 'length' or None, not {reason!r}")
        cut = msgspec.structs.replace(call, arguments=call.arguments[:kept])
        given = given_response(Response((cut,), stop_reason="max_tokens" if reason else "tool_use"))
        return cls("cut_arguments", {"call": call, "after": after, "reason": reason}, _responding(given))


def _middle(call: object, after: object) -> int:
    check_type("call", call, ToolCall, "a ToolCall")
    assert isinstance(call, ToolCall)
    length = len(call.arguments)
    if length < 2:
        raise ValueError(f"call has arguments that can be cut, not {call.arguments!r}")
    if after is None:
        return length // 2
    check_count("after", after, least=1)
    if not isinstance(after, int) or after >= length:
        raise ValueError(f"after is less than the {length} characters that there are, not {after}")
    return after


def _responding(given: Response) -> Act:
    async def respond(exchange: Exchange) -> None:
        await exchange.respond(given)

    return respond
