"""Tool calls: `function_call` and `custom_tool_call` items."""

from __future__ import annotations

from typing import Literal

from ..._canonical.content import Json, ToolCall
from .._documents import Fields, encode_json, read_text
from .._ids import fresh_id, short_id
from .namespaces import Names


def parse_call(fields: Fields, kind: Literal["json", "text"], names: Names) -> ToolCall:
    """Return the call of a `function_call` or `custom_tool_call` item, whose type was taken."""
    identity, name = fields.text("call_id") or "", fields.need_text("name")
    if kind == "json":
        arguments = _arguments(fields) or "{}"
    else:
        arguments = fields.text("input") or ""
    known = names.known(name, fields.peek("namespace"))
    if known != name:
        fields.keep("name", name)
    return ToolCall(known, arguments, identity, kind, fields.rest())


def render_call(call: ToolCall, names: Names, *, same_dialect: bool, fresh: bool) -> dict[str, Json]:
    """Return the item of a call.

    Args:
        call: the call to write.
        names: the names of the tools that the agent offers.
        same_dialect: True if the call's `extra` uses this dialect's field names.
        fresh: True to generate a new id for a missing one; False to derive one that is equal for the call and its
            result.
    """
    identity = call.id or (fresh_id("call_") if fresh else "")
    if not same_dialect or not call.id:
        identity = short_id(identity, "call_")
    document: dict[str, Json] = {"type": "function_call", "call_id": identity, "name": call.name}
    if call.kind == "text":
        document |= {"type": "custom_tool_call", "input": call.arguments}
    else:
        document["arguments"] = call.arguments or "{}"
    if not (same_dialect and "namespace" in (call.extra or {})):
        document |= names.wire(call.name)
    return {**document, **call.extra} if same_dialect and call.extra else document


def _arguments(fields: Fields) -> str:
    """Return arguments as text; an object becomes its JSON."""
    value = fields.take("arguments")
    if isinstance(value, dict):
        return encode_json(value).decode()
    return "" if value is None else read_text(value, fields.at("arguments"))
