"""Tools, tool choice and tool calls.

Rules:

1. A tool without `input_schema` is a provider's own tool, and is kept whole.
2. A schema describes an object, without alternatives at its top: Anthropic refuses others.
3. The input of a call is an object (see `_arguments`).
4. Ids that Anthropic refuses are replaced, each always by the same id.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Tool, ToolChoice
from ..._canonical.response import Response
from ...errors import DialectError
from .._arguments import SCHEMA, is_object, object_of, text_of, wrapped
from .._documents import Fields, encode_json, merged
from .._ids import fresh_id, legal_id


def parse_tool(value: Json, path: str) -> Tool:
    """Return a tool that the agent offers."""
    fields = Fields(value, path)
    if fields.peek("input_schema") is None:
        name = fields.text("name") or ""
        if not name and fields.peek("type") is None:
            raise DialectError("is missing", path=fields.at("name"))
        return Tool(name=name, kind="server", extra=value)
    return Tool(
        name=fields.need_text("name"),
        description=fields.text("description"),
        parameters=fields.mapping("input_schema"),
        strict=fields.flag("strict"),
        extra=fields.rest(),
    )


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    """Return the tool's wire form; None for another provider's own tool."""
    if tool.kind == "server":
        return tool.extra if same_dialect else None
    schema = SCHEMA if tool.kind == "custom" else tool.parameters or {}
    if not same_dialect:
        schema = _object_schema(schema)
    document: dict[str, Json] = {"name": tool.name}
    if tool.description is not None:
        document["description"] = tool.description
    document["input_schema"] = schema
    if tool.strict is not None and same_dialect:
        document["strict"] = tool.strict
    return merged(document, tool.extra) if same_dialect and tool.extra else document


def parse_choice(value: Json, path: str) -> tuple[ToolChoice | None, bool | None]:
    """Return the tool choice, and the permission of parallel calls (None if missing)."""
    if value is None:
        return None, None
    fields = Fields(value, path)
    kind = fields.need_text("type")
    off = fields.flag("disable_parallel_tool_use")
    parallel = None if off is None else not off
    if kind == "tool":
        return ToolChoice(mode="tool", name=fields.need_text("name"), extra=fields.rest()), parallel
    if kind == "any":
        return ToolChoice(mode="required", extra=fields.rest()), parallel
    if kind == "none":
        return ToolChoice(mode="none", extra=fields.rest()), parallel
    rest = fields.rest()
    return ToolChoice(extra=rest if kind == "auto" else {**(rest or {}), "type": kind}), parallel


def render_choice(choice: ToolChoice | None, parallel: bool | None, *, same_dialect: bool) -> Json | None:
    """Return the wire form of the tool choice; None if no field is needed."""
    if choice is None and parallel is not False:
        return None
    choice = choice or ToolChoice()
    kinds = {"auto": "auto", "required": "any", "none": "none", "tool": "tool"}
    document: dict[str, Json] = {"type": kinds[choice.mode]}
    if choice.mode == "tool":
        document["name"] = choice.name or ""
    if parallel is not None and choice.mode != "none":
        document["disable_parallel_tool_use"] = not parallel
    return merged(document, choice.extra) if same_dialect and choice.extra else document


def parse_call(fields: Fields) -> ToolCall:
    """Return the call of a `tool_use` block, whose type was taken."""
    identity, name = fields.text("id") or "", fields.need_text("name")
    arguments = text_of(fields.mapping("input") or {})
    return ToolCall(name, arguments, identity, extra=fields.rest())


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Return a `tool_use` block."""
    if call.kind == "text":
        call = wrapped(call)
    document: dict[str, Json] = {
        "type": "tool_use",
        "id": legal_id(call.id, "toolu_") if call.id else fresh_id("toolu_"),
        "name": call.name,
        "input": object_of(call.arguments),
    }
    return merged(document, call.extra) if same_dialect and call.extra else document


def with_whole_arguments(response: Response) -> Response:
    """Return the response with arguments that are objects, as `render_call` writes them.

    Without this step, a stream would contain the arguments as the model wrote them.
    """
    if all(call.kind == "text" or is_object(call.arguments) for call in response.tool_calls):
        return response
    content = tuple(_with_object(part) if isinstance(part, ToolCall) else part for part in response.content)
    return msgspec.structs.replace(response, content=content)


def _with_object(call: ToolCall) -> ToolCall:
    if call.kind == "text" or is_object(call.arguments):
        return call
    return msgspec.structs.replace(call, arguments=encode_json(object_of(call.arguments)).decode())


_ONE_OF, _ALL_OF = ("anyOf", "oneOf"), "allOf"


def _object_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """Return the schema as one object.

    Anthropic refuses `anyOf`, `oneOf` and `allOf` at the top. Their properties become those of the object. A
    property stays required if the schema itself, an item of `allOf`, or every alternative requires it.
    The result allows more than the source, and forbids nothing that the source allows.
    """
    alternatives = [_objects(schema.get(name)) for name in _ONE_OF]
    parts = _objects(schema.get(_ALL_OF))
    several = [*parts, *(each for found in alternatives for each in found)]
    if not several:
        return schema if "type" in schema else {"type": "object", **schema}
    rest = {name: value for name, value in schema.items() if name not in (*_ONE_OF, _ALL_OF, "required")}
    properties: dict[str, Json] = {}
    for each in (*several, schema):
        properties |= _properties(each)
    required = _required(schema, parts, [found for found in alternatives if found])
    return {
        "type": "object",
        **rest,
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _objects(value: Json) -> list[dict[str, Json]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _required(
    schema: dict[str, Json], parts: Sequence[dict[str, Json]], alternatives: Sequence[list[dict[str, Json]]]
) -> list[str]:
    """Return the properties that are required in any case, in the order of their first mention."""
    found = [name for each in (schema, *parts) for name in _named(each)]
    for several in alternatives:
        first, *others = [_named(each) for each in several]
        found += [name for name in first if all(name in other for other in others)]
    return list(dict.fromkeys(found))


def _properties(schema: dict[str, Json]) -> dict[str, Json]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _named(schema: dict[str, Json]) -> list[str]:
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
