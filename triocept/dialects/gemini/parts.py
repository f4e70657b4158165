"""Parse and render Gemini's content parts, tools, tool calls and tool results.

Fields of proto JSON (the JSON form of protocol buffers):

1. A field may be spelt in camelCase or in snake_case. Both spellings are read; camelCase is written. The spelling of an
   unknown field is not changed.
2. The item alone is accepted in place of a list of one item: Google's older examples write `contents` and `parts` in
   this form.

Tools, tool choice and tool calls:

1. One item of `tools` becomes several tools (`Tool`): one for each function in it, and one for each of the provider's
   own tools (`googleSearch`, …).
2. `parameters` comes in Google's subset of OpenAPI: types are UPPERCASE, `nullable` is a flag, and whole numbers may be
   strings, as everywhere in proto JSON. `parameters` is converted to JSON Schema. The tool keeps the original object,
   which is written again if the JSON Schema was not changed. The schema of a tool from another dialect is written as
   `parametersJsonSchema`.
3. The arguments of a call are a JSON object (see `_calls`). The arguments are always complete, because triocept never
   requests streamed arguments.
4. Gemini 3 refuses calls without a signature. So a call in a history from another dialect gets the value that Google
   defines for "no signature".

A tool result is a `functionResponse`, whose `response` is an object:

1. If the object has one key with a text, the text is the result. Google uses the keys `output` and `error`, its Python
   SDK uses `result`, and Vercel's AI SDK uses `content` and adds the tool's `name`. For any other object, its JSON is
   the result. The single key `error` means that the tool failed.
2. `extra` keeps the object, with null in place of the text, so that the same object can be written again.
3. Media of a result are in its field `parts`. Only the newest models accept this field, so media in a result from
   another dialect are written after all results of the message.

Other parts (unknown parts are kept unchanged):

1. A signature (`thoughtSignature`) stays on its original part, because Gemini refuses the signature on any other part.
   The signature of a thought becomes a blob; the signature of any other part is in `extra`.
2. Inline data is converted to standard base64: Google's Python SDK writes the URL-safe alphabet, which no other
   provider reads.
3. An agent sends a thought back unchanged. So the signatures of other providers are packed into the thought's signature
   for the agent, and unpacked when the agent sends the thought back.
4. Media that have a URL are sent as a URL, even if the media come from another dialect, because Gemini reads public
   URLs.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

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
from ..._canonical.memory import Memory
from ..._canonical.request import Tool, ToolChoice
from ...errors import DialectError
from .._calls import MADE, SCHEMA, object_of, text_of, wrapped
from .._documents import Fields, decode_json, encode_json, known_of, media_type_of, merged, split_data_url
from .._portable import pack, unpack

NAME = "gemini"


T = TypeVar("T")

_OF_REQUESTS = """
systemInstruction generationConfig toolConfig safetySettings cachedContent generateContentRequest functionDeclarations
parametersJsonSchema functionCallingConfig allowedFunctionNames streamFunctionCallArguments maxOutputTokens
stopSequences topP topK presencePenalty frequencyPenalty candidateCount responseMimeType responseSchema
outputDimensionality responseJsonSchema thinkingConfig thinkingBudget thinkingLevel includeThoughts
"""
_OF_PARTS = """
functionCall functionResponse inlineData fileData mimeType fileUri displayName thoughtSignature partialArgs
willContinue
"""
_OF_RESPONSES = """
finishReason finishMessage usageMetadata modelVersion responseId promptFeedback blockReason promptTokenCount
candidatesTokenCount totalTokenCount cachedContentTokenCount thoughtsTokenCount toolUsePromptTokenCount
"""
_CAMEL = {
    re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name): name
    for name in (_OF_REQUESTS + _OF_PARTS + _OF_RESPONSES).split()
}


_AS_WRITTEN: dict[str, str] = {}
"""The original spelling of each field that is not in camelCase, by its camelCase name; nearly always empty."""


class ProtoFields(Fields):
    """The fields of one protocol buffer message in its JSON form, spelt in camelCase or in snake_case.

    Do not use this class for maps and JSON data (`args`, schemas), whose keys are not field names.
    """

    __slots__ = ("_spelt",)

    def __init__(self, value: Json, path: str = "") -> None:
        self._spelt: dict[str, str] = _AS_WRITTEN
        if isinstance(value, dict) and not _CAMEL.keys().isdisjoint(value):
            self._spelt = {_CAMEL[name]: name for name in value if name in _CAMEL}
            value = {_CAMEL.get(name, name): inner for name, inner in value.items()}
        super().__init__(value, path)

    def at(self, name: str) -> str:
        return super().at(self._spelt.get(name, name))

    def each(self, name: str) -> list[tuple[str, Json]]:
        """Return the path and the value of each item of a list. A single object counts as a list of one item."""
        value = self.peek(name)
        return [(self.at(name), self.take(name))] if isinstance(value, dict) else self.items(name)

    def read(self, name: str, memory: Memory, parse: Callable[[Json, str], T]) -> tuple[T, ...]:
        if isinstance(self.peek(name), dict):
            return tuple(parse(item, path) for path, item in self.each(name))
        return memory.read(NAME, self.at(name), self.array(name), parse)

    def object(self, name: str) -> ProtoFields | None:
        value = self.take(name)
        return None if value is None else ProtoFields(value, self.at(name))

    def need_object(self, name: str) -> ProtoFields:
        found = self.object(name)
        if found is None:
            raise DialectError("is missing", path=self.at(name))
        return found


UNSIGNED = "skip_thought_signature_validator"  # the value that gemini-cli itself sends
_FUNCTIONS, _PARAMETERS, _SCHEMA = "functionDeclarations", "parameters", "parametersJsonSchema"
_CONFIG, _NAMES = "functionCallingConfig", "allowedFunctionNames"
_CALL = "functionCall"


def parse_tool(value: Json, path: str) -> tuple[Tool, ...]:
    """Convert one item of `tools`, which may define several functions, into one or more tools."""
    fields = ProtoFields(value, path)
    tools: list[Tool] = []
    for where, item in fields.each(_FUNCTIONS):
        inner = ProtoFields(item, where)
        name, description = inner.need_text("name"), inner.text("description")
        schema = inner.mapping(_SCHEMA)
        if schema is None and (raw := inner.mapping(_PARAMETERS)) is not None:
            schema = json_schema_of(raw)
            inner.keep(_PARAMETERS, raw)
        tools.append(Tool(name=name, description=description, parameters=schema, extra=inner.rest()))
    servers = known_of(fields.rest()).items()
    return (*tools, *[Tool(name=name, kind="server", extra={name: inner}) for name, inner in servers])


def render_tools(tools: Iterable[Tool], *, same_dialect: bool) -> list[Json]:
    functions = [_render_function(tool, same_dialect=same_dialect) for tool in tools if tool.kind != "server"]
    documents: list[Json] = [{_FUNCTIONS: functions}] if functions else []
    return documents + [tool.extra for tool in tools if tool.kind == "server" and same_dialect and tool.extra]


def parse_choice(fields: ProtoFields) -> ToolChoice | None:
    """Convert the tool choice in `toolConfig` into a `ToolChoice`. The other fields of `toolConfig` stay unread."""
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
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
    document: dict[str, Json] = {"mode": modes[choice.mode]}
    if choice.mode == "tool":
        document[_NAMES] = [choice.name or ""]
    return merged(document, choice.extra) if same_dialect and choice.extra else document


def parse_call(fields: ProtoFields) -> ToolCall:
    """Convert a `functionCall` part into a `ToolCall`. The id of the `ToolCall` may be empty."""
    inner = fields.need_object(_CALL)
    if inner.peek("partialArgs") or inner.peek("willContinue"):
        raise DialectError(
            "triocept did not request partial arguments of a tool call, but the provider sent them",
            path=inner.at("partialArgs"),
        )
    identity, name = inner.text("id") or "", inner.need_text("name")
    arguments = text_of(inner.mapping("args") or {})
    fields.keep(_CALL, inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Convert a tool call into a `functionCall` part."""
    if call.kind == "text":
        call = wrapped(call)
    inner: dict[str, Json] = {} if not call.id or call.id.startswith(MADE) else {"id": call.id}
    inner |= {"name": call.name, "args": object_of(call.arguments)}
    document = {_CALL: inner}
    return merged(document, call.extra) if same_dialect and call.extra else document


def _render_function(tool: Tool, *, same_dialect: bool) -> Json:
    document: dict[str, Json] = known_of({"name": tool.name, "description": tool.description})
    schema = SCHEMA if tool.kind == "custom" else tool.parameters
    extra = dict(tool.extra or {}) if same_dialect and tool.kind == "function" else {}
    raw = extra.pop(_PARAMETERS, None)
    if raw is not None and json_schema_of(raw) == schema:
        document[_PARAMETERS] = raw
    elif schema is not None:
        document[_SCHEMA] = schema if same_dialect or "type" in schema else {"type": "object", **schema}
    return merged(document, extra)


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
    """Convert a schema in Google's subset of OpenAPI into JSON Schema. Return a value that is not a dict unchanged."""
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
    if schema.get("nullable") is True:
        kind, options, values = found.get("type"), found.get("anyOf"), found.get("enum")
        if isinstance(kind, str) and kind != "null":
            found["type"] = [kind, "null"]
        if isinstance(options, list):
            found["anyOf"] = [*options, {"type": "null"}]
        if isinstance(values, list) and None not in values:
            found["enum"] = [*values, None]
    return found


_OUTPUT, _ERROR = "output", "error"
_FIELD, _RESPONSE = "functionResponse", "response"
_UNNAMED = "unknown_function"  # the wire requires a name


def parse_result(fields: ProtoFields) -> ToolResult:
    """Convert a `functionResponse` part into a `ToolResult`."""
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
    """Convert a tool result into a `functionResponse` part; `name` is the name of the called tool."""
    extra: dict[str, Json] = dict(result.extra or {}) if same_dialect else {}
    kept: dict[str, Json] = dict(extra.pop(_FIELD, None) or {}) if isinstance(extra.get(_FIELD), dict) else {}
    mark = kept.pop(_RESPONSE, _PLAIN)
    inner: dict[str, Json] = {} if not result.id or result.id.startswith(MADE) else {"id": result.id}
    inner["name"] = result.name or name or _UNNAMED
    inner[_RESPONSE] = _render_response(result, mark)
    if same_dialect:
        others = (part for part in result.content if not isinstance(part, Text))
        if parts := list(filter(None, [render_part(part, same_dialect=True) for part in others])):
            inner["parts"] = parts
    return merged({_FIELD: merged(inner, kept)}, extra)


_PLAIN = object()  # stands for no mark: the text has Google's own key


def _parse_response(response: dict[str, Json], name: str | None) -> tuple[str, Json]:
    """Return the text in a tool's `response`, and the value for `extra`: `response` with null in place of this text."""
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
    """Convert one of Gemini's content parts into a part of a message."""
    if type(value) is dict and len(value) == 1 and type(text := value.get("text")) is str:
        return Text(text)  # the usual case
    fields = ProtoFields(value, path)
    if fields.peek(_CALL) is not None:
        return parse_call(fields)
    if fields.peek(_FIELD) is not None:
        return parse_result(fields)
    if fields.peek("inlineData") is not None:
        inline = fields.need_object("inlineData")
        data, media_type, name = inline.text("data"), inline.text("mimeType"), inline.text("displayName")
        fields.keep("inlineData", inline.rest())
        data = (data or "").translate(_STANDARD)
        return Media(kind=_kind(media_type), data=data, media_type=media_type, name=name, extra=fields.rest())
    if fields.peek("fileData") is not None:
        file = fields.need_object("fileData")
        url, media_type = file.need_text("fileUri"), file.text("mimeType")
        fields.keep("fileData", file.rest())
        return Media(kind=_kind(media_type), url=url, media_type=media_type, extra=fields.rest())
    if fields.peek("text") is None:
        return Opaque(NAME, value)
    text = fields.need_text("text")
    if not fields.flag("thought"):
        return Text(text, fields.rest())
    signature = fields.text(_WIRE_SIGNATURE)
    blobs = unpack(signature) or (Blob(NAME, SIGNATURE, signature),) if signature else ()
    return Reasoning(text, blobs, fields.rest())


def render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    """Convert a text, media or opaque part into a Gemini part. For a part of another kind, return None."""
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
    """Convert reasoning into thought parts: one for each signature, or a single part without signature.

    `answer` is True for an answer to an agent, and False for a request to a provider. A provider refuses signatures of
    other providers, so a request contains no such signatures.
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
    """Convert media into an `inlineData` part, or into a `fileData` part if the media have only a URL."""
    if media.data is not None or media.url is None:
        inline = {"mimeType": media_type_of(media), "data": media.data or ""}
        named = {"displayName": media.name} if same_dialect and media.name else {}
        return {"inlineData": {**inline, **named}}
    embedded = split_data_url(media.url)
    if embedded is not None:
        return {"inlineData": {"mimeType": embedded[0] or media_type_of(media), "data": embedded[1]}}
    guessed = mimetypes.guess_type(media.url.partition("?")[0])[0]
    media_type = media.media_type or guessed or (media_type_of(media) if media.kind != "file" else None)
    file = {"fileUri": media.url, "mimeType": media_type}
    return {"fileData": known_of(file)}


def _kind(media_type: str | None) -> Literal["image", "audio", "file"]:
    kind = (media_type or "").partition("/")[0]
    if kind == "image":
        return "image"
    return "audio" if kind == "audio" else "file"
