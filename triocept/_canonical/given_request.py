"""Check the requests and messages that a program passes. Replace surrogates, because UTF-8 cannot encode them.

Rules:

1. The content of a message may be a str, which becomes one `Text` part, as in `exchange.respond`.
2. Every other field must have its declared type; the error contains the field's name. The canonical types themselves
   check nothing, because parsers create most values, a whole conversation for each call.
3. Values that were parsed from a request or a file are not checked again here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from reprlib import repr as short
from typing import Any, TypeVar, get_args
from uuid import UUID

import msgspec
from msgspec.structs import replace

from .._util.checks import check_number, described, unsayable
from .content import Media, Message, Opaque, Part, Reasoning, RefusalText, Role, Text, ToolCall, ToolResult
from .given import fit
from .request import Request, Sampling, Tool

T = TypeVar("T", bound=msgspec.Struct)

_ONE = 'Message("user", (Text("…"),))'
_PARTS = (Text, Reasoning, Media, ToolCall, RefusalText, Opaque, ToolResult)
_ROLES = frozenset(get_args(Role))
_BYTES = (bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, UUID)
"""Types that msgspec would silently convert to a str."""
_FINITE = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


def given_request(who: str, request: object) -> Request:
    """Check the request that was passed to the function named `who`, and return it without surrogates.

    Raises:
        TypeError: the argument is not a `Request`, or a field has the wrong type.
        ValueError: a role is unknown, or a number is not valid JSON.
    """
    if not isinstance(request, Request):
        hint = (
            "; for the request of an exchange, pass exchange.request" if hasattr(request, "request") else ""
        )
        if isinstance(request, str):
            hint = '; write Request(dialect="openai_chat", model="…", messages=(Message("user", "…"),))'
        raise TypeError(f"{who} takes a Request, not {described(request)}{hint}")
    messages = _tidy_all(f"{who}: Request.messages", request.messages)
    tools: Sequence[Tool] = request.tools
    if messages is not request.messages or isinstance(tools, list):
        request = replace(
            request, messages=messages, tools=tuple(tools) if isinstance(tools, list) else tools
        )
    _check_types(f"{who}: Request", request)
    _check_finite(f"{who}: Request.sampling", request.sampling)
    return fit(request)


def given_messages(what: str, given: object) -> tuple[Message, ...]:
    """Check the messages of the argument named `what`, and return them. Raise the same errors as `given_request`.

    Surrogates in the messages are not replaced.
    """
    messages = _tidy_all(what, given)
    for number, message in enumerate(messages):
        _check_types(f"{what}[{number}]", message)
    return messages


def check_sampling(name: str, sampling: Sampling) -> None:
    _check_types(name, sampling)
    _check_finite(name, sampling)


def _tidy_all(what: str, given: object) -> tuple[Message, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{what} must be a tuple of Messages, not {described(given)}; write ({_ONE},)")
    messages = given if isinstance(given, tuple) else tuple(given)
    tidy = [_tidy(f"{what}[{number}]", message) for number, message in enumerate(messages)]
    changed = any(new is not old for new, old in zip(tidy, messages, strict=True))
    return tuple(tidy) if changed else messages


def _tidy(place: str, message: object) -> Message:
    """Check a message, and return it with a tuple of parts as its content. A str becomes one `Text` part."""
    if not isinstance(message, Message):
        raise TypeError(f"{place} must be a Message, not {described(message)}; write {_ONE}")
    if message.role not in _ROLES:
        raise ValueError(f"{place}: unknown role {message.role!r}; the roles are {', '.join(get_args(Role))}")
    content = _parts(f"{place}.content", message.content)
    tidy = [_tidy_part(f"{place}.content[{number}]", part) for number, part in enumerate(content)]
    if any(new is not old for new, old in zip(tidy, content, strict=True)):
        content = tuple(tidy)
    return message if content is message.content else replace(message, content=content)


def _tidy_part(place: str, part: object) -> Part:
    if not isinstance(part, _PARTS):
        hint = f"; write Text({short(part)})" if isinstance(part, str) else ""
        names = ", ".join(kind.__name__ for kind in _PARTS)
        raise TypeError(f"{place} must be one of {names}, not {described(part)}{hint}")
    if not isinstance(part, ToolResult):
        return part
    content = _parts(f"{place}.content", part.content)
    return part if content is part.content else replace(part, content=content)


def _parts(place: str, content: object) -> tuple[Any, ...]:
    if isinstance(content, tuple):
        return content
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if isinstance(content, list):
        return tuple(content)
    raise TypeError(f"{place} must be a tuple of parts, not {described(content)}; write {_ONE}")


def _check_types(place: str, noun: T) -> None:
    """Raise an error if a field of `noun`, at any depth, has the wrong type."""
    try:
        msgspec.convert(msgspec.to_builtins(noun, builtin_types=_BYTES), type(noun))
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$")
        raise TypeError(f"{place}{where.rstrip('`')}: {what[0].lower()}{what[1:]}") from None
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        fields = {name: getattr(noun, name) for name in noun.__struct_fields__}
        raise unsayable(place, fields, msgspec.to_builtins) or exc from None


def _check_finite(place: str, sampling: Sampling) -> None:
    for name in _FINITE:  # JSON has no infinity: the encoder would write null
        if (number := getattr(sampling, name)) is not None:
            check_number(f"{place}.{name}", number, negative=name.endswith("penalty"))
