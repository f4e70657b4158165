"""Parse and render content blocks, tools and tool calls of the Messages API.

Tools, tool choice and tool calls:

1. A tool without `input_schema` is a provider's own tool, and is kept unchanged.
2. A schema must describe an object, without alternatives at its top level: Anthropic refuses any other schema.
3. The input of a tool call is an object (see `_calls`).
4. An id that Anthropic refuses is replaced by an allowed id, which is the same in all requests.

Thinking, which is signed or redacted:

1. Thinking in an answer to an agent always has a signature that is not empty. Agents drop a block without a signature,
   or show it as text. Thinking that no provider signed gets the signature `UNSIGNED`. When the agent sends this
   signature back, the parser removes the signature.
2. An agent sends thinking blocks back unchanged. So the signatures of other providers are packed into the signature of
   the block for the agent (or into a redacted block, if the thinking has no text). The signatures are unpacked when the
   agent sends the block back.
3. A provider that signs thinking refuses any thinking that the provider itself did not sign. So a request to a provider
   contains only thinking with a signature of this dialect.

Content blocks:

1. An unknown block is kept unchanged.
2. A string and a list of one plain text block mean the same; such a list is written as a string.
3. In a request, text without a visible character is left out, because Anthropic refuses such text.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from ..._canonical.request import Request, Tool, ToolChoice
from ..._canonical.text_file import text_as_data, text_in_file
from ...errors import DialectError
from .._calls import SCHEMA, fresh_id, legal_id, object_of, text_of, wrapped
from .._documents import (
    Fields,
    as_content,
    in_result,
    media_type_of,
    merged,
    parse_content,
    present,
)
from .._portable import pack, unpack

NAME = "anthropic_messages"


def parse_tool(value: Json, path: str) -> Tool:
    """Convert the definition of a tool in a request into a `Tool`."""
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
    """Convert `tool` into its definition in a request. For a built-in tool of another provider, return None."""
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
    """Convert `tool_choice` into a `ToolChoice`, and a bool that is True if parallel calls are allowed.

    Each of the two values is None if the document does not contain this value.
    """
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
    """Return the value of the field `tool_choice`, which also states if parallel calls are allowed (`parallel`).

    If the request needs no `tool_choice`, return None.
    """
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


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    if call.kind == "text":
        call = wrapped(call)
    document: dict[str, Json] = {
        "type": "tool_use",
        "id": legal_id(call.id, "toolu_") if call.id else fresh_id("toolu_"),
        "name": call.name,
        "input": object_of(call.arguments),
    }
    return merged(document, call.extra) if same_dialect and call.extra else document


_ONE_OF, _ALL_OF = ("anyOf", "oneOf"), "allOf"


def _object_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """Rewrite a JSON Schema so that it describes an object, without `anyOf`, `oneOf` and `allOf` at the top.

    Anthropic refuses `anyOf`, `oneOf` and `allOf` at the top. The properties of the schemas in these lists become
    properties of the object. A property is required in the result if the schema itself requires it, if an item of
    `allOf` requires it, or if all items of `anyOf` or `oneOf` require it. The result allows everything that the source
    allows, and more.
    """
    alternatives = [_objects(schema.get(name)) for name in _ONE_OF]
    parts = _objects(schema.get(_ALL_OF))
    several = [*parts, *(each for one_of in alternatives for each in one_of)]
    if not several:
        return schema if "type" in schema else {"type": "object", **schema}
    rest = {name: value for name, value in schema.items() if name not in (*_ONE_OF, _ALL_OF, "required")}
    properties: dict[str, Json] = {}
    for each in (*several, schema):
        found = each.get("properties")
        properties |= found if isinstance(found, dict) else {}
    required = [name for each in (schema, *parts) for name in _named(each)]
    for one_of in filter(None, alternatives):
        first, *others = [_named(each) for each in one_of]
        required += [name for name in first if all(name in other for other in others)]
    return {
        "type": "object",
        **rest,
        "properties": properties,
        **({"required": list(dict.fromkeys(required))} if required else {}),
    }


def _objects(value: Json) -> list[dict[str, Json]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _named(schema: dict[str, Json]) -> list[str]:
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


UNSIGNED = "triocept-unsigned"
SIGNATURE, REDACTED = "signature", "redacted"


def render_reasoning(part: Reasoning, *, same_dialect: bool, signed_only: bool) -> list[Json]:
    """Convert reasoning into a list of `thinking` and `redacted_thinking` blocks, which may be empty.

    If `signed_only` is True, leave out thinking that Anthropic did not sign.
    """
    blocks: list[dict[str, Json]] = []
    redacted = redacted_of(part.blobs)
    if signature_of(part.blobs) or (part.text and not signed_only):
        signature = agent_signature(part.blobs)
        blocks.append({"type": "thinking", "thinking": part.text, "signature": signature})
    elif not signed_only and (packed := pack(part.blobs, NAME)):
        redacted.append(packed)
    blocks += [{"type": "redacted_thinking", "data": data} for data in redacted]
    if same_dialect and part.extra and blocks:
        blocks[0] = merged(blocks[0], part.extra)
    return list(blocks)


def signature_blobs(signature: str | None) -> tuple[Blob, ...]:
    """Return the blobs that the signature of a `thinking` block contains.

    If `pack` wrote the signature, these are the packed blobs. An empty signature and `UNSIGNED` contain no blob. Any
    other signature is one blob of this dialect.
    """
    if not signature or signature == UNSIGNED:
        return ()
    return unpack(signature) or (Blob(NAME, SIGNATURE, signature),)


def signature_of(blobs: tuple[Blob, ...]) -> str | None:
    return next((b.data for b in reversed(blobs) if b.dialect == NAME and b.kind == SIGNATURE), None)


def agent_signature(blobs: tuple[Blob, ...]) -> str:
    """Return the signature for a `thinking` block that is sent to an agent. The signature is never empty."""
    return signature_of(blobs) or pack(blobs, NAME) or UNSIGNED


def redacted_of(blobs: tuple[Blob, ...]) -> list[str]:
    return [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED]


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True if the agent's JSON body can be sent to a provider unchanged.

    Return False if the agent sent back thinking whose signature triocept generated, because a provider refuses such
    thinking.
    """
    return bool(document.get("stream")) == request.stream and not any(
        isinstance(part, Reasoning) and not part.blobs
        for message in request.messages
        for part in message.content
    )


_TEXT = "text/plain"
_KINDS: dict[str, Literal["image", "file"]] = {"image": "image", "document": "file"}


def parse_block(value: Json, path: str) -> Part:
    """Convert a content block into a part of a message."""
    fields = Fields(value, path)
    kind = fields.need_text("type")
    match kind:
        case "text":
            return Text(fields.need_text("text"), fields.rest())
        case "tool_use":
            identity, name = fields.text("id") or "", fields.need_text("name")
            arguments = text_of(fields.mapping("input") or {})
            return ToolCall(name, arguments, identity, extra=fields.rest())
        case "tool_result":
            identity, inner = fields.need_text("tool_use_id"), fields.take("content")
            content = in_result(parse_content(inner, fields.at("content"), parse_block), inner, NAME)
            is_error = fields.flag("is_error") or False
            return ToolResult(id=identity, content=content, is_error=is_error, extra=fields.rest())
        case "thinking":
            text, signature = fields.text("thinking") or "", fields.text("signature")
            return Reasoning(text, signature_blobs(signature), fields.rest())
        case "redacted_thinking":
            data = fields.need_text("data")
            return Reasoning("", unpack(data) or (Blob(NAME, REDACTED, data),), fields.rest())
        case "image" | "document":
            return _parse_source(fields, kind) or Opaque(NAME, value)
        case _:
            return Opaque(NAME, value)


def render_block(part: Part, *, same_dialect: bool, blank: bool = False) -> Json | None:
    """Convert a text, media or opaque part into a content block. For a part of another kind, return None.

    If `blank` is True, text without a visible character is also converted, because a model could write such text.
    """
    match part:
        case Text(text=text) | RefusalText(text=text):
            visible = text if blank else text.strip()
            block: dict[str, Json] | None = {"type": "text", "text": text} if visible else None
        case Media():
            block = _render_media(part)
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    return merged(block, part.extra) if same_dialect and block and part.extra else block


def render_result(result: ToolResult, *, same_dialect: bool) -> Json:
    """Convert a tool result into a `tool_result` block."""
    block: dict[str, Json] = {"type": "tool_result", "tool_use_id": legal_id(result.id, "toolu_")}
    if content := present([render_block(part, same_dialect=same_dialect) for part in result.content]):
        block["content"] = as_content(content)
    if result.is_error:
        block["is_error"] = True
    return merged(block, result.extra) if same_dialect and result.extra else block


def _parse_source(fields: Fields, kind: str) -> Part | None:
    """Convert an image or document block into `Media`; return None if the type of its `source` is unknown.

    If the result is None, the caller keeps the block unchanged.
    """
    source = fields.need_object("source")
    source_type = source.need_text("type")
    url = data = media_type = name = None
    if source_type == "base64":
        data, media_type = source.need_text("data"), source.text("media_type")
    elif source_type == "url":
        url = source.need_text("url")
    elif source_type == "text" and kind == "document":
        data, media_type = text_as_data(source.need_text("data")), _TEXT
        source.take("media_type")
    else:
        return None
    fields.keep("source", source.rest())
    if kind == "document":
        name = fields.text("title")
    extra, media_kind = fields.rest(), _KINDS[kind]
    return Media(kind=media_kind, url=url, data=data, media_type=media_type, name=name, extra=extra)


def _render_media(media: Media) -> dict[str, Json]:
    if media.kind == "audio" or (media.url is None and media.data is None):
        return {
            "type": "text",
            "text": f"[{media.name or media.kind}: not shown, for it cannot be sent here]",
        }
    if media.url is not None:
        source = {"type": "url", "url": media.url}
    elif (text := text_in_file(media.kind, media.media_type, media.data)) is not None:
        source = {"type": "text", "media_type": _TEXT, "data": text}
    else:
        source = {"type": "base64", "media_type": media_type_of(media), "data": media.data or ""}
    if media.kind == "image":
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, **({"title": media.name} if media.name else {})}
