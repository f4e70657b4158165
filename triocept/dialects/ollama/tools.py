"""Tools and their calls.

Rules:

1. A tool is a function, as in chat completions; other providers' own tools are left out.
2. The arguments of a call are an object. Its id is optional: servers before 0.12 have no ids, and neither have the
   messages that the official clients send back. An id that triocept generated for such a call is not written.
"""

from __future__ import annotations

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Tool
from ...errors import DialectError
from .._arguments import SCHEMA, object_of, text_of, wrapped
from .._documents import Fields, merged
from .._pairing import MADE


def parse_tool(value: Json, path: str) -> Tool:
    """Return a tool that the agent offers."""
    fields = Fields(value, path)
    kind = fields.text("type") or "function"
    if kind != "function":
        raise DialectError("must be 'function'", path=fields.at("type"))
    inner = fields.need_object("function")
    name, description = inner.need_text("name"), inner.text("description")
    parameters, strict = inner.mapping("parameters"), inner.flag("strict")
    fields.keep("function", inner.rest())
    return Tool(name=name, description=description, parameters=parameters, strict=strict, extra=fields.rest())


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    """Return the tool's wire form; None for another provider's own tool."""
    if tool.kind == "server":
        return None
    inner: dict[str, Json] = {"name": tool.name}
    if tool.description is not None:
        inner["description"] = tool.description
    parameters = SCHEMA if tool.kind == "custom" else tool.parameters
    if parameters is not None:
        inner["parameters"] = parameters
    if same_dialect and tool.strict is not None:
        inner["strict"] = tool.strict
    document: dict[str, Json] = {"type": "function", "function": inner}
    return merged(document, tool.extra) if same_dialect and tool.extra else document


def parse_call(value: Json, path: str) -> ToolCall:
    """Return a call of a message; it may have no id."""
    fields = Fields(value, path)
    identity = fields.text("id") or ""
    inner = fields.need_object("function")
    name = inner.need_text("name")
    arguments = inner.take("arguments")
    if not isinstance(arguments, str):  # an object is Ollama's form; clients of other wires send a string
        arguments = text_of(Fields(arguments or {}, inner.at("arguments")).rest() or {})
    fields.keep("function", inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Return the wire form of a call."""
    if call.kind == "text":
        call = wrapped(call)
    document: dict[str, Json] = {} if not call.id or call.id.startswith(MADE) else {"id": call.id}
    document["function"] = {"name": call.name, "arguments": object_of(call.arguments)}
    return merged(document, call.extra) if same_dialect and call.extra else document
