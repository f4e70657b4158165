"""Tools, tool choice and tool calls.

Rules:

1. A tool that is no function is kept whole: `custom` takes free text, any other type is a provider's own tool.
2. In a dialect without custom tools, a custom tool becomes a function with one string, `input`; its calls are
   converted back.
3. Arguments are a string on the wire; xAI and others send an object, which is read as its JSON.
"""

from __future__ import annotations

from typing import Literal

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Tool, ToolChoice
from ...errors import DialectError
from .._documents import Fields, encode_json, kind_of, merged, read_text
from .._ids import legal_id


def parse_tool(value: Json, path: str) -> Tool:
    """Return a tool that the agent offers."""
    fields = Fields(value, path)
    kind = fields.text("type")
    if kind is None and fields.peek("function") is None:
        raise DialectError("is missing", path=fields.at("type"))
    if kind in ("function", None):
        return _parse_function(fields, "function")
    inner = fields.peek(kind) if kind == "custom" else value
    named = inner if isinstance(inner, dict) else {}
    name, description = named.get("name"), named.get("description")
    return Tool(
        name=name if isinstance(name, str) else "",
        description=description if isinstance(description, str) else None,
        kind="custom" if kind == "custom" else "server",
        extra=value,
    )


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    """Return the tool's wire form; None for another provider's own tool."""
    if tool.kind != "function" and same_dialect and tool.extra:
        return tool.extra
    if tool.kind == "server":
        return None
    inner: dict[str, Json] = {"name": tool.name}
    if tool.description is not None:
        inner["description"] = tool.description
    if tool.kind == "custom":
        return {"type": "custom", "custom": inner}
    if tool.parameters is not None:
        inner["parameters"] = tool.parameters
    if tool.strict is not None:
        inner["strict"] = tool.strict
    document = {"type": "function", "function": inner}
    return merged(document, tool.extra) if same_dialect and tool.extra else document


def parse_choice(value: Json, path: str) -> ToolChoice | None:
    """Return the tool choice: on the wire a word, or an object that names the tool."""
    if value is None:
        return None
    if isinstance(value, str):
        modes: dict[str, Literal["auto", "none", "required"]] = {
            "auto": "auto",
            "none": "none",
            "required": "required",
            "any": "required",  # Mistral's word
        }
        return ToolChoice(mode=modes[value]) if value in modes else ToolChoice(extra={"tool_choice": value})
    fields = Fields(value, path)
    kind = fields.text("type") or "function"
    inner = fields.peek(kind)
    name = inner.get("name") if isinstance(inner, dict) else None
    if isinstance(name, str):
        return ToolChoice(mode="tool", name=name, extra=None if kind == "function" else value)
    if kind == "function":
        raise DialectError("is missing", path=f"{path}.function.name")
    required = isinstance(inner, dict) and inner.get("mode") == "required"
    return ToolChoice(mode="required" if required else "auto", extra=value)


def render_choice(choice: ToolChoice, *, same_dialect: bool) -> Json:
    """Return the wire form of a tool choice."""
    if same_dialect and choice.extra:
        return choice.extra.get("tool_choice", choice.extra)
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name or ""}}
    return choice.mode


def parse_call(value: Json, path: str) -> ToolCall:
    """Return a tool call of an assistant message."""
    fields = Fields(value, path)
    identity, kind = fields.text("id") or "", fields.text("type")
    fields.take("index")  # a field of stream fragments, which some servers leave in whole answers
    if kind == "custom":
        inner = fields.need_object("custom")
        name, arguments = inner.need_text("name"), inner.text("input") or ""
        fields.keep("custom", inner.rest())
        return ToolCall(name, arguments, identity, "text", fields.rest())
    inner = fields.need_object("function")
    name, arguments = inner.need_text("name"), _arguments(inner)
    fields.keep("function", inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def parse_function_call(fields: Fields) -> tuple[ToolCall, ...]:
    """Return the legacy `function_call` of an assistant message as a call whose id is derived from the name."""
    inner = fields.object("function_call")
    if inner is None:
        return ()
    name = inner.need_text("name")
    return (ToolCall(name, _arguments(inner), f"call_{name}"),)


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Return the wire form of a tool call."""
    document: dict[str, Json]
    identity = call.id or legal_id("", "call_")
    if call.kind == "text":
        custom = {"name": call.name, "input": call.arguments}
        document = {"id": identity, "type": "custom", "custom": custom}
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        document = {"id": identity, "type": "function", "function": function}
    return merged(document, call.extra) if same_dialect and call.extra else document


def arguments_text(value: Json, path: str) -> str:
    """Return arguments as text; an object becomes its JSON."""
    if isinstance(value, dict):
        return encode_json(value).decode()
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DialectError(f"must be a string, not {kind_of(value)}", path=path)
    return read_text(value, path)


def _arguments(inner: Fields) -> str:
    return arguments_text(inner.take("arguments"), inner.at("arguments")) or "{}"


def _parse_function(fields: Fields, key: str) -> Tool:
    inner = fields.need_object(key)
    name, description = inner.need_text("name"), inner.text("description")
    parameters, strict = inner.mapping("parameters"), inner.flag("strict")
    fields.keep(key, inner.rest())
    return Tool(name=name, description=description, parameters=parameters, strict=strict, extra=fields.rest())
