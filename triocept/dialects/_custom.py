"""Calls of tools that take free text, in dialects where arguments are JSON: `{"input": "the text"}`."""

from __future__ import annotations

import msgspec

from .._canonical.content import Json, ToolCall
from ..errors import DialectError
from ._json import decode_json, encode_json

__all__ = ["INPUT", "SCHEMA", "unwrapped", "wrapped"]

INPUT = "input"
SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
"""The JSON Schema of such a tool as a function."""


def wrapped(call: ToolCall) -> ToolCall:
    """A call with free text as one with JSON."""
    arguments = encode_json({INPUT: call.arguments}).decode()
    return msgspec.structs.replace(call, arguments=arguments, kind="json", extra=None)


def unwrapped(call: ToolCall) -> ToolCall:
    """The reverse; arguments of any other shape are the text as they stand."""
    text = call.arguments
    try:
        found = decode_json(text)
    except DialectError:
        found = None
    if isinstance(found, dict) and isinstance(found.get(INPUT), str):
        text = found[INPUT]
    return msgspec.structs.replace(call, arguments=text, kind="text", extra=None)
