"""Arguments of a call: as an object, for wires that have objects, and as free text, for tools that take free text.

Arguments that are not an object (invalid JSON, cut JSON, free text) become `{"_raw": "the text"}`, which is read back
as that text. Arguments of a tool that takes free text become `{"input": "the text"}` in dialects with JSON arguments.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .._canonical.content import Json, ToolCall
from .._canonical.request import Request
from ..errors import DialectError
from ._documents import decode_json, encode_json

_RAW = "_raw"


def object_of(arguments: str) -> dict[str, Json]:
    """Return the arguments as an object."""
    if not arguments.strip():
        return {}
    try:
        found = decode_json(arguments)
    except DialectError:
        found = None
    return found if isinstance(found, dict) else {_RAW: arguments}


def is_object(arguments: str) -> bool:
    """Return True if the arguments are an object, or empty, which counts as an empty object."""
    if not arguments.strip() or arguments == "{}":
        return True
    try:
        return isinstance(decode_json(arguments), dict)
    except DialectError:
        return False


def text_of(value: dict[str, Json]) -> str:
    """Return the text of an object: its JSON, or the text that `object_of` wrapped."""
    raw = value.get(_RAW) if len(value) == 1 else None
    if isinstance(raw, str) and object_of(raw) == value:
        return raw
    return encode_json(value).decode()


_INPUT = "input"
SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}
"""The JSON Schema of a free-text tool that is declared as a function."""


def wrapped(call: ToolCall) -> ToolCall:
    """Return a call with free text as a call with JSON."""
    arguments = encode_json({_INPUT: call.arguments}).decode()
    return msgspec.structs.replace(call, arguments=arguments, kind="json", extra=None)


def unwrapped(call: ToolCall) -> ToolCall:
    """Return a call with JSON as a call with free text; arguments of another shape stay as they are."""
    text = call.arguments
    try:
        found = decode_json(text)
    except DialectError:
        found = None
    if isinstance(found, dict) and isinstance(found.get(_INPUT), str):
        text = found[_INPUT]
    return msgspec.structs.replace(call, arguments=text, kind="text", extra=None)


def custom_names(request: Request) -> frozenset[str]:
    """Return the names of the tools that take free text."""
    return frozenset([tool.name for tool in request.tools if tool.kind == "custom"])


def fitted_call(call: ToolCall, customs: Iterable[str]) -> ToolCall:
    """Return the call in the kind (JSON or free text) that the agent declared for the tool."""
    if call.kind == "json" and call.name in customs:
        return unwrapped(call)
    if call.kind == "text" and call.name not in customs:
        return wrapped(call)
    return call


class FittedCall:
    """A call of a stream, converted to the kind (JSON or free text) that the agent declared for the tool.

    A call of another kind is held back until it is whole.

    Args:
        call: the call as it begins.
        customs: the names of the tools that take free text.
    """

    def __init__(self, call: ToolCall, customs: Iterable[str]) -> None:
        self.call: ToolCall = call
        self._customs = customs
        self._held = [call.arguments] if (call.kind == "text") != (call.name in customs) else None

    def hold(self, text: str) -> bool:
        """Take more of the arguments; return True if they are held back, False if they can be written."""
        if self._held is not None:
            self._held.append(text)
        return self._held is not None

    @property
    def held(self) -> bool:
        return self._held is not None

    def release(self) -> ToolCall:
        """Return the whole call, converted to the declared kind."""
        whole = msgspec.structs.replace(self.call, arguments="".join(self._held or ()))
        self.call, self._held = fitted_call(whole, self._customs), None
        return self.call
