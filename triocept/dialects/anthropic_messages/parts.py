"""Content blocks.

Rules:

1. An unknown block is kept whole.
2. A string equals a list of one plain text block, and such a list is written as the string.
3. In a request, text without a visible character is left out: Anthropic refuses it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..._canonical.content import Json, Media, Opaque, Part, RefusalText, Text, ToolResult
from ..._canonical.text_file import text_as_data, text_in_file
from .._documents import Fields, as_content, in_result, media_type_of, merged
from .._documents import parse_content as content_of
from .._ids import legal_id
from .names import NAME
from .reasoning import parse_redacted, parse_thinking
from .tools import parse_call

_TEXT = "text/plain"


def parse_content(value: Json, path: str) -> tuple[Part, ...]:
    """Return the blocks of a `content` or a `system`, which may be missing, a string or a list."""
    return content_of(value, path, parse_block)


def parse_block(value: Json, path: str) -> Part:
    """Return the part of a block."""
    fields = Fields(value, path)
    reader = _READERS.get(fields.need_text("type"))
    return (reader(fields) if reader else None) or Opaque(NAME, value)


def render_block(part: Part, *, same_dialect: bool, blank: bool = False) -> Json | None:
    """Return a block of text, of media, or an opaque one; None for a part of another kind.

    Args:
        part: the part to write.
        same_dialect: True if the part's `extra` uses this dialect's field names.
        blank: True to write text without a visible character, too, as a model may have written it.
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
    """Return a `tool_result` block."""
    block: dict[str, Json] = {"type": "tool_result", "tool_use_id": legal_id(result.id, "toolu_")}
    content = [
        inner
        for part in result.content
        if (inner := render_block(part, same_dialect=same_dialect)) is not None
    ]
    if content:
        block["content"] = as_content(content)
    if result.is_error:
        block["is_error"] = True
    return merged(block, result.extra) if same_dialect and result.extra else block


def _parse_text(fields: Fields) -> Part:
    return Text(fields.need_text("text"), fields.rest())


def _parse_image(fields: Fields) -> Part | None:
    return _parse_source(fields, "image")


def _parse_document(fields: Fields) -> Part | None:
    return _parse_source(fields, "file")


def _parse_source(fields: Fields, kind: str) -> Part | None:
    """Return media of a known source; None for another source, whose block is kept whole."""
    source = fields.need_object("source")
    source_type = source.need_text("type")
    url = data = media_type = None
    if source_type == "base64":
        data, media_type = source.need_text("data"), source.text("media_type")
    elif source_type == "url":
        url = source.need_text("url")
    elif source_type == "text" and kind == "file":
        data, media_type = text_as_data(source.need_text("data")), _TEXT
        source.take("media_type")
    else:
        return None
    fields.keep("source", source.rest())
    name = fields.text("title") if kind == "file" else None
    return Media(
        kind="image" if kind == "image" else "file",
        url=url,
        data=data,
        media_type=media_type,
        name=name,
        extra=fields.rest(),
    )


def _parse_result(fields: Fields) -> Part:
    identity = fields.need_text("tool_use_id")
    value = fields.take("content")
    inner = in_result(parse_content(value, fields.at("content")), value, NAME)
    is_error = fields.flag("is_error") or False
    return ToolResult(id=identity, content=inner, is_error=is_error, extra=fields.rest())


def _render_media(media: Media) -> dict[str, Json]:
    if media.kind == "audio" or (media.url is None and media.data is None):
        return {
            "type": "text",
            "text": f"[{media.name or media.kind}: not shown, for it cannot be sent here]",
        }
    if media.kind == "image":
        return {"type": "image", "source": _source(media)}
    block = {"type": "document", "source": _source(media)}
    return {**block, "title": media.name} if media.name else block


def _source(media: Media) -> dict[str, Json]:
    if media.url is not None:
        return {"type": "url", "url": media.url}
    text = text_in_file(media.kind, media.media_type, media.data)
    if text is not None:
        return {"type": "text", "media_type": _TEXT, "data": text}
    return {"type": "base64", "media_type": media_type_of(media), "data": media.data or ""}


_READERS: dict[str, Callable[[Fields], Part | None]] = {
    "text": _parse_text,
    "image": _parse_image,
    "document": _parse_document,
    "thinking": parse_thinking,
    "redacted_thinking": parse_redacted,
    "tool_use": parse_call,
    "tool_result": _parse_result,
}
