"""A fault: a value, and a handler that does to one model call what it says.

Rules:

1. A fault is a value: it may answer any number of calls, in any dialect, and does the same to each.
2. What it cannot be made with is an error where it is made, and names the argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, final

from ..._canonical.content import Json, ToolCall
from ..._rollout.exchange import Answerable, Exchange
from . import answers, refusals

__all__ = ["Act", "Fault"]

Act: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""What a fault does to a call."""


@final
class Fault:
    """Something that goes wrong, as a reply: `ScriptedModel([Fault.status(429, retry_after=1), "ok"])`.

    Made by its constructors only. It is a handler, too: `await fault(exchange)` gives the call what it says, in the
    agent's own dialect, whole or as a stream, as the agent has asked. Two that were made alike are equal.
    """

    __slots__ = ("_act", "arguments", "name")

    name: str
    """That of its constructor."""
    arguments: Mapping[str, object]
    """What it was made with, without what is None."""
    _act: Act

    def __init__(self, name: str, arguments: Mapping[str, object], act: Act) -> None:
        given = {key: value for key, value in arguments.items() if value is not None}
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", given)
        object.__setattr__(self, "_act", act)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a fault is a value: its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a fault is a value: its {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"Fault.{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fault) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a call so.

        Raises:
            AlreadySettled, ExchangeAbandoned: as `exchange.respond`.

        Cancellation: as `exchange.respond`.
        """
        await self._act(exchange)

    # Errors of a provider

    @staticmethod
    def status(
        status: int,
        message: str | None = None,
        *,
        retry_after: float | datetime | timedelta | None = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """An error in the agent's dialect, with this status: `Fault.status(429, retry_after=1)`, `Fault.status(529)`.

        Args:
            status: 400 to 599.
            message: what the agent reads; None: what the status is called.
            retry_after: seconds; or a date (an aware `datetime`), or how far from now that is to be (a `timedelta`):
                then the header has a date, which HTTP allows, too.
            should_retry, code, headers: as of `exchange.refuse`.

        Raises:
            TypeError, ValueError: an argument is not what it should be.
        """
        arguments = {
            "status": status,
            "message": message,
            "retry_after": retry_after,
            "should_retry": should_retry,
            "code": code,
            "headers": headers,
        }
        return Fault("status", arguments, refusals.status(**arguments))  # type: ignore[arg-type]

    @staticmethod
    def context_length(tokens: int = 200_001, most: int = 200_000) -> Fault:
        """400: the prompt has so many tokens, and no more than `most` are allowed; in words that agents know."""
        return Fault(
            "context_length", {"tokens": tokens, "most": most}, refusals.context_length(tokens, most)
        )

    @staticmethod
    def too_large() -> Fault:
        """413: the request is too large."""
        return Fault("too_large", {}, refusals.status(413))

    # Answers that are right on the wire

    @staticmethod
    def finish(reason: Literal["length", "content_filter"], answer: Answerable = answers.DEFAULT) -> Fault:
        """An answer that ends because it was too long, or because a filter has cut it, as its dialect says that."""
        return Fault("finish", {"reason": reason, "answer": answer}, answers.finish(reason, answer))

    @staticmethod
    def cut_arguments(
        call: ToolCall = answers.DEFAULT_CALL,
        *,
        after: int | None = None,
        reason: Literal["length"] | None = None,
    ) -> Fault:
        """A tool call whose arguments end in the middle: they are no JSON.

        Args:
            call: it, whole.
            after: characters of its arguments that come; None: half of them.
            reason: `length` where the answer says so; None: it says that a tool is to be called.

        Raises:
            TypeError, ValueError: an argument is not what it should be; or these arguments have no such middle.
        """
        arguments: dict[str, Json | ToolCall] = {"call": call, "after": after, "reason": reason}
        return Fault("cut_arguments", arguments, answers.cut_arguments(call, after, reason))
