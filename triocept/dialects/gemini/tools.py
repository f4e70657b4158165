"""Tools, tool choice and tool calls.

Rules:

1. One wire tool is several canonical tools: its functions, and each of the provider's own tools (`googleSearch`, …).
2. `parameters` is Google's subset of OpenAPI, read as JSON Schema: its types are UPPERCASE, `nullable` is a flag, and
   whole numbers may be strings, as in all of proto JSON. The original object is kept, and written again as long as
   both are equivalent. From another dialect, the schema is `parametersJsonSchema`.
3. The arguments of a call are an object (see `_arguments`), and always whole: triocept never requests them in pieces.
4. A call from another dialect's history gets Google's own value for "no signature", for Gemini 3 refuses calls without
   a signature.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Tool, ToolChoice
from ...errors import DialectError
from .._arguments import SCHEMA, object_of, text_of, wrapped
from .._documents import Fields, merged
from .._ids import fresh_id
from .._pairing import MADE
from .fields import ProtoFields

UNSIGNED = "skip_thought_signature_validator"  # the value that gemini-cli itself sends
_FUNCTIONS, _PARAMETERS, _SCHEMA = "functionDeclarations", "parameters", "parametersJsonSchema"
_CONFIG, _NAMES = "functionCallingConfig", "allowedFunctionNames"
_CALL = "functionCall"


def parse_tool(value: Json, path: str) -> tuple[Tool, ...]:
    """Return the canonical tools of one wire tool."""
    fields = ProtoFields(value, path)
    functions = [_parse_function(item, where) for where, item in fields.each(_FUNCTIONS)]
    same_dialect = (fields.rest() or {}).items()
    servers = [
        Tool(name=name, kind="server", extra={name: inner})
        for name, inner in same_dialect
        if inner is not None
    ]
    return (*functions, *servers)


def render_tools(tools: Iterable[Tool], *, same_dialect: bool) -> list[Json]:
    """Return the wire's tools, without other providers' own tools."""
    functions = [_render_function(tool, same_dialect=same_dialect) for tool in tools if tool.kind != "server"]
    documents: list[Json] = [{_FUNCTIONS: functions}] if functions else []
    return documents + [tool.extra for tool in tools if tool.kind == "server" and same_dialect and tool.extra]


def parse_choice(fields: ProtoFields) -> ToolChoice | None:
    """Return the choice in `toolConfig`; other fields stay among the unknown fields."""
    config = fields.object("toolConfig")
    if config is None:
        return None
    inner = config.object(_CONFIG)
    choice = None
    if inner is not None:
        inner.take("streamFunctionCallArguments")
        choice = _parse_config(inner)
    fields.keep("toolConfig", config.rest())
    return choice


def render_choice(choice: ToolChoice, *, same_dialect: bool) -> Json:
    """Return the `functionCallingConfig`."""
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
    document: dict[str, Json] = {"mode": modes[choice.mode]}
    if choice.mode == "tool":
        document[_NAMES] = [choice.name or ""]
    return merged(document, choice.extra) if same_dialect and choice.extra else document


def parse_call(fields: ProtoFields) -> ToolCall:
    """Return the call of a `functionCall` part; its id may be missing."""
    inner = fields.need_object(_CALL)
    if inner.peek("partialArgs") or inner.peek("willContinue"):
        raise DialectError("arguments in pieces were not asked for", path=inner.at("partialArgs"))
    identity, name = inner.text("id") or "", inner.need_text("name")
    arguments = text_of(inner.mapping("args") or {})
    fields.keep(_CALL, inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Return a `functionCall` part."""
    if call.kind == "text":
        call = wrapped(call)
    inner: dict[str, Json] = {} if not call.id or call.id.startswith(MADE) else {"id": call.id}
    inner |= {"name": call.name, "args": object_of(call.arguments)}
    document = {_CALL: inner}
    return merged(document, call.extra) if same_dialect and call.extra else document


def with_id(call: ToolCall) -> ToolCall:
    """Return the call with an id: clients invent one for a call without an id."""
    return call if call.id else msgspec.structs.replace(call, id=fresh_id("call_"))


def _parse_function(value: Json, path: str) -> Tool:
    fields = ProtoFields(value, path)
    name, description = fields.need_text("name"), fields.text("description")
    schema = fields.mapping(_SCHEMA)
    if schema is None and (raw := fields.mapping(_PARAMETERS)) is not None:
        schema = json_schema_of(raw)
        fields.keep(_PARAMETERS, raw)
    return Tool(name=name, description=description, parameters=schema, extra=fields.rest())


def _render_function(tool: Tool, *, same_dialect: bool) -> Json:
    document: dict[str, Json] = {"name": tool.name}
    if tool.description is not None:
        document["description"] = tool.description
    schema = SCHEMA if tool.kind == "custom" else tool.parameters
    extra = dict(tool.extra or {}) if same_dialect and tool.kind == "function" else {}
    raw = extra.pop(_PARAMETERS, None)
    if raw is not None and json_schema_of(raw) == schema:
        document[_PARAMETERS] = raw
    elif schema is not None:
        document[_SCHEMA] = schema if same_dialect or "type" in schema else {"type": "object", **schema}
    return merged(document, extra) if extra else document


def _parse_config(inner: Fields) -> ToolChoice:
    mode, names = inner.text("mode") or "AUTO", list(inner.texts(_NAMES))
    rest = dict(inner.rest() or {})
    if mode == "ANY" and len(names) == 1:
        return ToolChoice(mode="tool", name=names[0], extra=rest or None)
    if names:
        rest[_NAMES] = names
    if mode == "ANY":
        return ToolChoice(mode="required", extra=rest or None)
    if mode == "NONE":
        return ToolChoice(mode="none", extra=rest or None)
    return ToolChoice(extra=(rest if mode == "AUTO" else {**rest, "mode": mode}) or None)


_SCHEMAS = ("items", "additionalProperties", "additional_properties")
_LISTS = {"anyOf": "anyOf", "any_of": "anyOf", "prefixItems": "prefixItems", "prefix_items": "prefixItems"}
_MAPS = {"properties": "properties", "defs": "$defs"}
_NUMBERS = {
    name: camel
    for camel, snake in (
        ("minItems", "min_items"),
        ("maxItems", "max_items"),
        ("minLength", "min_length"),
        ("maxLength", "max_length"),
        ("minProperties", "min_properties"),
        ("maxProperties", "max_properties"),
    )
    for name in (camel, snake)
}
_ORDER = ("propertyOrdering", "property_ordering", "nullable")


def json_schema_of(schema: Json) -> Json:
    """Return the equivalent JSON Schema; return a value that is not an object unchanged."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Json] = {}
    for name, value in schema.items():
        if name == "type":
            found |= _type(value)
        elif name in _SCHEMAS:
            found["items" if name == "items" else "additionalProperties"] = json_schema_of(value)
        elif name in _LISTS and isinstance(value, list):
            found[_LISTS[name]] = [json_schema_of(each) for each in value]
        elif name in _MAPS and isinstance(value, dict):
            found[_MAPS[name]] = {key: json_schema_of(each) for key, each in value.items()}
        elif name in _NUMBERS:
            found[_NUMBERS[name]] = int(value) if isinstance(value, str) and value.isdecimal() else value
        elif name == "ref":
            found["$ref"] = value
        elif name == "example":
            found["examples"] = [value]
        elif name not in _ORDER:
            found[name] = value
    return _nullable(found) if schema.get("nullable") is True else found


def _type(value: Json) -> dict[str, Json]:
    if not isinstance(value, str):
        return {"type": value}
    return {} if value == "TYPE_UNSPECIFIED" else {"type": value.lower()}


def _nullable(schema: dict[str, Json]) -> dict[str, Json]:
    kind, options, values = schema.get("type"), schema.get("anyOf"), schema.get("enum")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    if isinstance(options, list):
        schema["anyOf"] = [*options, {"type": "null"}]
    if isinstance(values, list) and None not in values:
        schema["enum"] = [*values, None]
    return schema
