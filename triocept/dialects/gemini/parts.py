"""Parts: text, thoughts, media, tools, calls and results.

Tools, tool choice and tool calls:

1. One wire tool is several canonical tools: its functions, and each of the provider's own tools (`googleSearch`, …).
2. `parameters` is Google's subset of OpenAPI, read as JSON Schema: its types are UPPERCASE, `nullable` is a flag, and
   whole numbers may be strings, as in all of proto JSON. The original object is kept, and written again as long as
   both are equivalent. From another dialect, the schema is `parametersJsonSchema`.
3. The arguments of a call are an object (see `_calls`), and always whole: triocept never requests them in pieces.
4. A call from another dialect's history gets Google's own value for "no signature", for Gemini 3 refuses calls without
   a signature.

Results of tools: `functionResponse`, whose `response` is an object:

1. A text under one key (`output` and `error` are Google's keys, `result` that of its Python SDK) is the result's text;
   any other object becomes its JSON. `error` alone means that the tool failed. Vercel's AI SDK repeats the tool's
   `name` beside its text, which is its `content`.
2. The form is marked in `extra`, with null in place of the text, so that the same form is written again.
3. Media of a result are in its `parts`. Media of another dialect's result come after all results of the turn, for only
   the newest models accept `parts`.

Other parts (unknown ones are kept whole):

1. A signature (`thoughtSignature`) stays on its original part: as a blob of a thought, in the `extra` of any other
   part. Gemini refuses it anywhere else.
2. Inline data is converted to standard base64: Google's Python SDK writes the URL-safe alphabet, which no other
   provider reads.
3. An agent sends a thought back unchanged. So other providers' signatures travel to the agent packed into the
   thought's signature, and come back as blobs.
4. Media with a URL from another provider are sent as URLs: Gemini reads public URLs.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable
from typing import Literal

from ..._canonical.content import (
    Blob,
    Json,
    Media,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.request import Tool, ToolChoice
from ...errors import DialectError
from .._calls import MADE, SCHEMA, object_of, text_of, wrapped
from .._documents import decode_json, encode_json, known_of, media_type_of, merged, split_data_url
from .._portable import pack, unpack
from .fields import NAME, ProtoFields

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
    fields.keep("toolConfig", config.rest())
    if inner is None:
        return None
    inner.take("streamFunctionCallArguments")
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
            if not isinstance(value, str):
                found["type"] = value
            elif value != "TYPE_UNSPECIFIED":
                found["type"] = value.lower()
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


def _nullable(schema: dict[str, Json]) -> dict[str, Json]:
    kind, options, values = schema.get("type"), schema.get("anyOf"), schema.get("enum")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    if isinstance(options, list):
        schema["anyOf"] = [*options, {"type": "null"}]
    if isinstance(values, list) and None not in values:
        schema["enum"] = [*values, None]
    return schema


_OUTPUT, _ERROR = "output", "error"
_FIELD, _RESPONSE = "functionResponse", "response"
_UNNAMED = "unknown_function"  # the wire requires a name


def parse_result(fields: ProtoFields) -> ToolResult:
    """Return the result of a `functionResponse` part."""
    inner = fields.need_object(_FIELD)
    identity, name = inner.text("id") or "", inner.text("name")
    response = inner.mapping(_RESPONSE) or {}
    text, mark = _parse_response(response, name)
    content: list[Text | Media | Opaque] = [Text(text)] if text else []
    for path, item in inner.each("parts"):
        part = parse_part(item, path)
        content.append(part if isinstance(part, Text | Media | Opaque) else Opaque(NAME, item))
    rest = dict(inner.rest() or {})
    if mark is not _PLAIN:
        rest[_RESPONSE] = mark
    fields.keep(_FIELD, rest)
    is_error = response.keys() == {_ERROR}
    return ToolResult(id=identity, content=tuple(content), is_error=is_error, name=name, extra=fields.rest())


def render_result(result: ToolResult, name: str | None, *, same_dialect: bool) -> dict[str, Json]:
    """Return a `functionResponse` part; `name` is the name of the called tool."""
    extra: dict[str, Json] = dict(result.extra or {}) if same_dialect else {}
    kept: dict[str, Json] = dict(extra.pop(_FIELD, None) or {}) if isinstance(extra.get(_FIELD), dict) else {}
    mark = kept.pop(_RESPONSE, _PLAIN)
    inner: dict[str, Json] = {} if not result.id or result.id.startswith(MADE) else {"id": result.id}
    inner["name"] = result.name or name or _UNNAMED
    inner[_RESPONSE] = _render_response(result, mark)
    if same_dialect:
        others = (part for part in result.content if not isinstance(part, Text))
        if parts := [wire for part in others if (wire := render_part(part, same_dialect=True))]:
            inner["parts"] = parts
    return merged({_FIELD: merged(inner, kept)}, extra)


_PLAIN = object()  # no mark: the text has Google's own key


def _parse_response(response: dict[str, Json], name: str | None) -> tuple[str, Json]:
    """Return the text of a result, and the mark of its form."""
    if not response:
        return "", {}
    if len(response) == 1:
        ((key, value),) = response.items()
        if isinstance(value, str):
            return value, _PLAIN if value and key in (_OUTPUT, _ERROR) else {key: None}
    match response:
        case {"name": str(repeated), "content": str(value)} if len(response) == 2 and repeated == name:
            return value, {"name": name, "content": None}
    return encode_json(response).decode(), None


def _render_response(result: ToolResult, mark: Json) -> dict[str, Json]:
    text = result.text
    if mark is None:
        try:
            whole = decode_json(text)
        except DialectError:
            whole = None
        if isinstance(whole, dict):
            return whole
    if mark == {} and not text:
        return {}
    if isinstance(mark, dict) and mark and not result.is_error:
        return {key: text if value is None else value for key, value in mark.items()}
    if not text and any(not isinstance(part, Text) for part in result.content):
        text = "(see below)"
    return {_ERROR if result.is_error else _OUTPUT: text}


SIGNATURE = "thought_signature"
_WIRE_SIGNATURE = "thoughtSignature"
_STANDARD = str.maketrans("-_", "+/")


def parse_part(value: Json, path: str) -> Part:
    """Return the canonical part of a wire part."""
    if type(value) is dict and len(value) == 1 and type(text := value.get("text")) is str:
        return Text(text)  # the usual case
    fields = ProtoFields(value, path)
    for name, reader in _READERS.items():
        if fields.peek(name) is not None:
            return reader(fields)
    return Opaque(NAME, value)


def render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    """Return a part of text, of media, or an opaque one; None for a part of another kind.

    Args:
        part: the part to write.
        same_dialect: True if the part's `extra` uses this dialect's field names.
    """
    document: dict[str, Json]
    match part:
        case Text(text=text) | RefusalText(text=text):
            document = {"text": text}
        case Media():
            document = render_media(part, same_dialect=same_dialect)
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    return merged(document, part.extra) if same_dialect and part.extra else document


def render_reasoning(part: Reasoning, *, same_dialect: bool, answer: bool) -> list[dict[str, Json]]:
    """Return the thoughts of this reasoning: several if it has several signatures.

    Args:
        part: the reasoning to write.
        same_dialect: True if the part's `extra` uses this dialect's field names.
        answer: True if it goes to an agent, False if it goes to a provider, which refuses foreign signatures.
    """
    signatures: list[str | None] = [
        blob.data for blob in part.blobs if blob.dialect == NAME and blob.kind == SIGNATURE
    ]
    packed = pack(part.blobs, NAME) if answer and not signatures else None
    signatures += [packed] if packed else []
    if part.text and not signatures:
        signatures = [None]
    parts: list[dict[str, Json]] = []
    for number, signature in enumerate(signatures):
        document: dict[str, Json] = {"text": "" if number else part.text, "thought": True}
        if signature is not None:
            document[_WIRE_SIGNATURE] = signature
        parts.append(document)
    if same_dialect and part.extra and parts:
        parts[0] = merged(parts[0], part.extra)
    return parts


def render_media(media: Media, *, same_dialect: bool) -> dict[str, Json]:
    """Return `inlineData`, or `fileData` for media with a URL."""
    if media.data is not None or media.url is None:
        inline = {"mimeType": media_type_of(media), "data": media.data or ""}
        return {
            "inlineData": {**inline, "displayName": media.name} if same_dialect and media.name else inline
        }
    embedded = split_data_url(media.url)
    if embedded is not None:
        return {"inlineData": {"mimeType": embedded[0] or media_type_of(media), "data": embedded[1]}}
    guessed = mimetypes.guess_type(media.url.partition("?")[0])[0]
    media_type = media.media_type or guessed or (media_type_of(media) if media.kind != "file" else None)
    file = {"fileUri": media.url, "mimeType": media_type}
    return {"fileData": known_of(file)}


def _parse_text(fields: ProtoFields) -> Part:
    text = fields.need_text("text")
    if not fields.flag("thought"):
        return Text(text, fields.rest())
    signature = fields.text(_WIRE_SIGNATURE)
    blobs = unpack(signature) or (Blob(NAME, SIGNATURE, signature),) if signature else ()
    return Reasoning(text, blobs, fields.rest())


def _parse_inline(fields: ProtoFields) -> Part:
    inline = fields.need_object("inlineData")
    data, media_type, name = inline.text("data"), inline.text("mimeType"), inline.text("displayName")
    fields.keep("inlineData", inline.rest())
    data = (data or "").translate(_STANDARD)
    return Media(kind=_kind(media_type), data=data, media_type=media_type, name=name, extra=fields.rest())


def _parse_file(fields: ProtoFields) -> Part:
    file = fields.need_object("fileData")
    url, media_type = file.need_text("fileUri"), file.text("mimeType")
    fields.keep("fileData", file.rest())
    return Media(kind=_kind(media_type), url=url, media_type=media_type, extra=fields.rest())


def _kind(media_type: str | None) -> Literal["image", "audio", "file"]:
    kind = (media_type or "").partition("/")[0]
    if kind == "image":
        return "image"
    return "audio" if kind == "audio" else "file"


_READERS: dict[str, Callable[[ProtoFields], Part]] = {
    "functionCall": parse_call,
    "functionResponse": parse_result,
    "inlineData": _parse_inline,
    "fileData": _parse_file,
    "text": _parse_text,
}
