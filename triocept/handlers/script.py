"""A scripted model: the replies are written down beforehand.

Rules:

1. One reply an exchange, in order. Nothing is repeated and nothing made up: a script that has run out is an error.
2. Only the exchange that takes a reply moves the script on; an agent's hang-up while a pause runs gives it back.
"""

from __future__ import annotations

import inspect
import json
import runpy
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import TypeAlias, TypeGuard, cast, final

import msgspec
import trio

from .._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.given import given_response
from .._canonical.request import Request
from .._canonical.response import Response
from .._checks import check_number
from .._rollout.exchange import Exchange
from ..errors import DialectError, Refusal, ScriptExhausted

__all__ = ["NotAReply", "Reply", "ScriptedModel", "read_script"]

Scripted: TypeAlias = str | ToolCall | Response | Refusal | Sequence[str | ToolCall]
Reply: TypeAlias = Scripted | float | Callable[[Request], Scripted | Awaitable[Scripted]]
"""What a script is made of:

* a `str`: text;
* a `ToolCall`, or a list of them (and of texts): one response that holds them all;
* a `Response`: as it is;
* a `Refusal`: the agent is refused;
* a number: a pause of so many seconds before the next reply;
* a function of the `Request` that gives one of these (async or not), pauses excepted.
"""


class NotAReply(TypeError):
    """Something in a script is none of the things that a script is made of."""


@final
class ScriptedModel:
    """A handler that answers by a script.

    Args:
        replies: see `Reply`.

    Raises:
        ScriptExhausted: from the exchange that finds no reply left; its text shows the request.
        TypeError: a reply is none of the things above, or a pause that nobody can wait; the text names its place. Or
            the replies are no list.
    """

    def __init__(self, replies: Iterable[Reply]) -> None:
        if isinstance(replies, (str, bytes, Mapping)) or not isinstance(replies, Iterable):
            raise TypeError(f"a script is a list of replies: ScriptedModel([{short(replies)}])")
        self._replies: list[Reply] = list(replies)
        for number, reply in enumerate(self._replies):
            _check(reply, number)
        self._next = 0

    @property
    def remaining(self) -> int:
        """How many replies are left, pauses not counted."""
        return sum(not _is_pause(reply) for reply in self._replies[self._next :])

    async def __call__(self, exchange: Exchange) -> None:
        number, pause = self._take(exchange)
        try:
            await trio.sleep(pause)
        except trio.Cancelled:
            self._give_back(number)
            raise
        said = await _resolve(self._replies[number], exchange.request, number)
        if isinstance(said, Refusal):
            raise said
        await exchange.respond(_as_response(said))

    def __repr__(self) -> str:
        return f"<ScriptedModel: {self.remaining} of {len(self._replies)} replies left>"

    def _take(self, exchange: Exchange) -> tuple[int, float]:
        """The number of the next reply, and the pause before it."""
        first, pause = self._next, 0.0
        for number in range(first, len(self._replies)):
            reply = self._replies[number]
            if not _is_pause(reply):
                self._next = number + 1
                return number, pause
            pause += reply
        taken = sum(not _is_pause(reply) for reply in self._replies)
        raise ScriptExhausted(
            f"the script has no reply left after {taken}; the request was {describe(exchange.request)}"
        )

    def _give_back(self, number: int) -> None:
        if self._next == number + 1:
            self._next = number


def describe(request: Request) -> str:
    """A request in a few lines, for a person."""
    lines = [f"{request.dialect}, model {request.model!r}, {len(request.messages)} messages; the last ones:"]
    for message in request.messages[-3:]:
        said = message.text or ", ".join(
            [f"calls {call.name}({call.arguments})" for call in message.tool_calls]
            + [f"result {result.text!r}" for result in message.tool_results]
        )
        lines.append(f"  {message.role}: {' '.join(said[:400].split())}")
    return "\n".join(lines)


def read_script(path: str | Path) -> list[Reply]:
    """The replies in a file.

    A Python file defines `replies`. A JSON file is a list of: strings (text); numbers (pauses, in seconds);
    `{"tool": name, "arguments": {…}}`; `{"refuse": status, "message": …, "retry_after": seconds}`; lists of strings
    and tools (one response).

    Raises:
        OSError: the file cannot be read.
        DialectError: it is not a script; the path in it is named.
    """
    path = Path(path)
    if path.suffix == ".py":
        found = runpy.run_path(str(path)).get("replies")
        if not isinstance(found, (list, tuple)):
            raise DialectError("a Python script defines a list named 'replies'", path=str(path))
        return list(found)
    try:
        document = json.loads(path.read_bytes())
    except ValueError as exc:
        raise DialectError(f"not valid JSON (a Python script is named *.py): {exc}", path=str(path)) from exc
    if not isinstance(document, list):
        raise DialectError("a JSON script is a list of replies", path=str(path))
    return [_from_json(item, f"{path}[{number}]") for number, item in enumerate(document)]


def _from_json(item: Json, place: str) -> Reply:
    match item:
        case bool():
            pass
        case str() | int() | float():
            return item
        case {"tool": str() as name}:
            _check_names(item, ("tool", "arguments", "id"), place)
            return ToolCall(name, msgspec.json.encode(item.get("arguments", {})).decode(), item.get("id", ""))
        case {"refuse": int() as status}:
            _check_names(item, ("refuse", "message", "retry_after"), place)
            try:
                return Refusal(status, item.get("message", "refused"), retry_after=item.get("retry_after"))
            except (TypeError, ValueError) as exc:
                raise DialectError(str(exc), path=place) from None
        case list():
            parts = [_from_json(inner, f"{place}[{number}]") for number, inner in enumerate(item)]
            if all(isinstance(part, (str, ToolCall)) for part in parts):
                return parts  # type: ignore[return-value]
    raise DialectError(f"not a reply: {item!r}", path=place)


def _check_names(item: dict[str, Json], known: tuple[str, ...], place: str) -> None:
    if unknown := [name for name in item if name not in known]:
        raise DialectError(f"there is no {unknown[0]!r} here; there are {', '.join(known)}", path=place)


def _is_pause(reply: object) -> TypeGuard[int | float]:
    return isinstance(reply, (int, float)) and not isinstance(reply, bool)


def _check(reply: object, number: int) -> None:
    try:
        if _is_pause(reply):
            check_number(f"replies[{number}], a pause,", reply)
    except ValueError as exc:
        raise NotAReply(str(exc)) from None
    if isinstance(reply, type):
        raise NotAReply(f"replies[{number}] is the class {reply.__name__}: give one of it")
    if callable(reply):
        _check_function(reply, number)
    if isinstance(reply, (str, Refusal)) or callable(reply) or _is_pause(reply):
        return
    is_list = isinstance(reply, Sequence) and reply and all(isinstance(p, (str, *_PARTS)) for p in reply)
    if not is_list and not isinstance(reply, (ToolCall, Response)):
        raise NotAReply(
            f"replies[{number}] is no reply: {reply!r}. A reply is a text, a ToolCall, a list of these, a Response, "
            "a Refusal, a number (a pause), or a function of the request"
        )
    try:
        given_response(_as_response(cast(Scripted, reply)))
    except (TypeError, ValueError) as exc:
        raise NotAReply(f"replies[{number}]: {exc}") from None


def _check_function(function: Callable[..., object], number: int) -> None:
    try:
        takes = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin: nobody knows
        return
    try:
        takes.bind(None)
    except TypeError as exc:
        name = getattr(function, "__name__", repr(function))
        raise NotAReply(
            f"replies[{number}]: {name}{takes} cannot be called with the request: {exc}"
        ) from None


_PARTS = (Text, Reasoning, ToolCall, RefusalText, Opaque)


async def _resolve(reply: Reply, request: Request, number: int) -> Scripted:
    if not callable(reply):
        assert not isinstance(reply, (int, float))
        return reply
    made = reply(request)
    said: object = await made if inspect.isawaitable(made) else made
    _check(said, number)
    if callable(said) or _is_pause(said):
        raise NotAReply(
            f"replies[{number}] is a function, and gave {said!r}: no pause or function is meant here"
        )
    return cast(Scripted, said)


def _as_response(said: Scripted) -> Response:
    if isinstance(said, Response):
        return said
    parts = [said] if isinstance(said, (str, ToolCall)) else said
    return Response.of(*parts)  # type: ignore[misc]
