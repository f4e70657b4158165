"""The kinds of replies in a script, and the function that answers an exchange with a reply."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from os import PathLike
from reprlib import repr as short
from typing import Any, TypeAlias, TypeGuard, cast, final

from ..._canonical.content import Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.given import given_response
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._rollout.exchange import Exchange
from ..._util.checks import check_number
from ...errors import Refusal
from ..faults import Fault
from ..faults.base import FaultType
from .stream import Stream

Scripted: TypeAlias = str | ToolCall | Response | Refusal | Stream | Fault | Sequence[str | ToolCall]
Reply: TypeAlias = Scripted | float | Callable[[Request], Scripted | Awaitable[Scripted]]
"""A reply of a script:

* a `str`: text;
* a `ToolCall`, or a list of tool calls and texts: one response that contains all of these;
* a `Response`: sent unchanged;
* a `Stream`: streamed in the pieces and at the pace that it defines;
* a `Refusal`: the call is refused with an HTTP error;
* a `Fault`: the fault is applied to the call;
* a number: a pause in seconds before the next reply;
* a function of the `Request` that returns a reply other than a pause (async or not). `Template` is such a function."""

_FORMS = (
    "a reply is a text, a ToolCall, a list of these, a Response, a Stream, a Refusal, a Fault, a number (a pause), "
    "or a function of the request"
)
_PARTS = (Text, Reasoning, ToolCall, RefusalText, Opaque)
_HANDLERS = (Stream, Fault)
"""Kinds of replies that are also handlers."""


@final
class ReadScript(list[Any]):
    """List of the items of a script; `read_script` returns it.

    Within a script, a list of any other type is one reply.
    """


class NotAReply(TypeError):
    """Error: an item of a script is not a reply."""

    __module__ = "triocept.handlers"  # the public place, shown in tracebacks


async def give(reply: Reply, exchange: Exchange, place: str) -> None:
    """Answer `exchange` with `reply`, which must not be a pause.

    Raises:
        Refusal: the reply is a refusal.
        NotAReply: a function returned something that is not a reply.
    """
    said: object = reply
    if callable(reply) and not isinstance(reply, _HANDLERS):
        request = exchange.request
        try:
            said = reply(request)
            said = await said if inspect.isawaitable(said) else said
        except AttributeError as exc:
            if exc.obj is request and hasattr(Exchange, exc.name or ""):
                exc.add_note(
                    f"triocept: {place} is a function: a reply function gets the request, and returns the reply. "
                    "A function of the exchange is a handler: pass it as `handler=…` in place of replies"
                )
            raise
        check_reply(said, place)
        if is_pause(said) or (callable(said) and not isinstance(said, _HANDLERS)):
            raise NotAReply(
                f"{place} is a function, and returned {said!r}: it must return a reply other than a pause or a function"
            )
    if isinstance(said, Refusal):
        raise said
    if isinstance(said, _HANDLERS):
        await said(exchange)
    else:
        await exchange.respond(_as_response(cast(Scripted, said)))


def is_pause(reply: object) -> TypeGuard[int | float]:
    return isinstance(reply, (int, float)) and not isinstance(reply, bool)


def check_replies(replies: Sequence[Reply], place: str) -> None:
    """Check that each item of `replies` is a reply or a pause, and that the last item is not a pause.

    Raises:
        NotAReply: there are no replies, an item is not a reply, or the last item is a pause.
    """
    if isinstance(replies, tuple) and len(replies) == 1 and isinstance(replies[0], (int, float)):
        raise NotAReply(f"{place} has only a pause: add a reply after it")
    for number, reply in enumerate(replies):
        check_reply(reply, f"{place}: reply {number}")
    if not replies or is_pause(replies[-1]):
        raise NotAReply(f"{place} must end with a reply")


def check_reply(reply: object, place: str) -> None:
    """Check an item of a script.

    Raises:
        NotAReply: `reply` is neither a reply nor a pause. The error's text begins with `place`.
    """
    try:
        if is_pause(reply):
            check_number(f"{place}, a pause,", reply)
    except ValueError as exc:
        raise NotAReply(str(exc)) from None
    if isinstance(reply, type):
        raise NotAReply(f"{place} is the class {reply.__name__}, not an instance of it")
    if isinstance(reply, ReadScript):
        raise NotAReply(
            f"{place} is the list that read_script returns: write *read_script(…) to insert its replies, "
            "or ScriptedModel(read_script(…)) for a handler"
        )
    if isinstance(reply, PathLike):
        raise NotAReply(f"{place} is a path: write *read_script(path) for the replies of that file")
    if isinstance(getattr(reply, "__self__", None), FaultType):
        name = getattr(reply, "__name__", "")
        raise NotAReply(f"{place} must be a Fault, not the function that makes it: call Fault.{name}(…)")
    if isinstance(reply, (str, Refusal, *_HANDLERS)) or is_pause(reply):
        return
    if callable(reply):
        try:
            takes = inspect.signature(reply)
        except (TypeError, ValueError):  # a builtin without a signature
            return
        try:
            takes.bind(None)
        except TypeError as exc:
            name = getattr(reply, "__name__", repr(reply))
            raise NotAReply(f"{place}: {name}{takes} cannot be called with the request: {exc}") from None
        return
    is_list = isinstance(reply, Sequence) and reply and all(isinstance(p, (str, *_PARTS)) for p in reply)
    if not is_list and not isinstance(reply, (ToolCall, Response)):
        text = reply.get("text") if isinstance(reply, dict) and len(reply) == 1 else None
        hint = f"write the text alone: {text!r}" if isinstance(text, str) else _FORMS
        raise NotAReply(f"{place} is not a reply: {short(reply)}; {hint}")
    try:
        given_response(_as_response(cast(Scripted, reply)))
    except (TypeError, ValueError) as exc:
        raise NotAReply(f"{place}: {exc}") from None


def _as_response(said: Scripted) -> Response:
    if isinstance(said, Response):
        return said
    parts = [said] if isinstance(said, (str, ToolCall)) else said
    return Response.of(*parts)  # type: ignore[misc]
