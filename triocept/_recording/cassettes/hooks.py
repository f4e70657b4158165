"""What a program wants out of calls before they are compared: functions of requests, and of texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TypeAlias

import msgspec

from ..._canonical.content import Message, Opaque, Part, RefusalText, Text, ToolCall, ToolResult
from ..._canonical.form import arguments_value
from ..._canonical.given_request import given_request
from ..._canonical.request import Request, Tool
from ..._util.checks import check_callable, described
from ..roots import in_json, mask_of
from ..volatile import steady as without_volatile

Normalise: TypeAlias = Callable[[Request], Request]
NormaliseText: TypeAlias = Callable[[str], str]

_encode = msgspec.json.Encoder(order="deterministic").encode


def check_hook(name: str, function: object, what: str) -> None:
    """See whether this can be such a function: `what` says which.

    Raises:
        TypeError: it is none, or async.
    """
    check_callable(name, function, what)
    if iscoroutinefunction(function):
        raise TypeError(f"{name} is {what}, and not async")


def normalised(request: Request, by_request: Normalise | None, by_text: NormaliseText | None) -> Request:
    """A request, as these leave it.

    Raises:
        TypeError: one of them gives something else than it is to give.
    """
    if by_text is not None:
        request = _with_texts(request, by_text)
    if by_request is not None:
        given: object = by_request(request)
        request = given_request("a request that `normalise` gives:", given)
    return request


def _with_texts(request: Request, function: NormaliseText) -> Request:
    def change(text: str) -> str:
        given: object = function(text)
        if not isinstance(given, str):
            raise TypeError(f"normalise_text gives a text, not {described(given)}")
        return given

    messages = tuple([_message(message, change) for message in request.messages])
    tools = tuple([_tool(tool, change) for tool in request.tools])
    return msgspec.structs.replace(request, messages=messages, tools=tools)


def _message(message: Message, change: NormaliseText) -> Message:
    return msgspec.structs.replace(message, content=tuple([_part(part, change) for part in message.content]))


def _part(part: Part, change: NormaliseText) -> Part:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return msgspec.structs.replace(part, text=change(text))
        case ToolCall(kind="text"):
            return msgspec.structs.replace(part, arguments=change(part.arguments))
        case ToolCall():
            return msgspec.structs.replace(part, arguments=_json(part.arguments, change))
        case ToolResult():
            content = tuple([_inner(each, change) for each in part.content])
            return msgspec.structs.replace(part, content=content)
        case Opaque():
            return Opaque(part.dialect, in_json(part.raw, change))
        case _:
            return part


def _inner(part: Part, change: NormaliseText) -> Part:
    return Text(_json(part.text, change)) if isinstance(part, Text) else _part(part, change)


def _json(text: str, change: NormaliseText) -> str:
    """A text; where it is an object or a list, each text in it."""
    value = arguments_value(text) if text.lstrip()[:1] in ("{", "[") else text
    return _encode(in_json(value, change)).decode() if isinstance(value, dict | list) else change(text)


def _tool(tool: Tool, change: NormaliseText) -> Tool:
    return msgspec.structs.replace(tool, description=tool.description and change(tool.description))


def normalize(*directories: str | os.PathLike[str]) -> Callable[[str], str]:
    """A function for `normalise_text`: dates, times, durations, UUIDs and other ids become `<date>`, `<id>`, and so on.

    So do the git snapshot and the listing of files that some agents put into their prompts: `<git>`, `<files>`.

    Args:
        directories: such as `tmp_path`; each, and what a tool makes of it as the name of one file, becomes `<root>`.
    """
    mask = mask_of([{os.fspath(path).rstrip("/"): os.fspath(path).rstrip("/")} for path in directories])
    return lambda text: without_volatile(mask(text))
