"""Content parts: a string, or a list of text, image_url, input_audio, file and refusal parts.

A list of one plain text and the string are the same content, and are written as the string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..._canonical.content import Json, Media, Opaque, Part, RefusalText, Text, ToolResult
from .._fields import Fields, merged, read_text
from .._media import data_url, media_type_of, split_data_url
from .names import NAME

__all__ = ["parse_content", "parse_result_content", "render_content", "render_part"]

_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}


def parse_content(value: Json, path: str) -> tuple[Part, ...]:
    """The parts of a message's `content`, which may be missing, a string or a list."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(_parse_part(item, f"{path}[{number}]") for number, item in enumerate(value))
    text = read_text(value, path)
    return (Text(text),) if text else ()


def parse_result_content(value: Json, path: str) -> tuple[Text | Media | Opaque, ...]:
    """The content of a tool's result: what cannot be in one stays as it is."""
    parts = parse_content(value, path)
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Opaque(NAME, value[number])
        for number, part in enumerate(parts)
    )


def render_content(parts: Iterable[Part], *, own: bool) -> Json:
    """The `content` of a message: a string where it is only plain text."""
    rendered = [document for part in parts if (document := render_part(part, own=own)) is not None]
    if not rendered:
        return ""
    if len(rendered) == 1 and rendered[0].keys() == {"type", "text"} and rendered[0]["type"] == "text":
        return rendered[0]["text"]
    return rendered


def render_part(part: Part, *, own: bool) -> dict[str, Json] | None:
    """One content part; None for what has no place in `content`.

    Args:
        part: what to write.
        own: whether its `extra` is in this dialect's words.
    """
    document: dict[str, Json] | None = None
    match part:
        case Text(text=text):
            document = {"type": "text", "text": text}
        case Media():
            document = _render_media(part)
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
    extra = None if document is None or isinstance(part, ToolResult | Opaque) else part.extra
    return merged(document, extra) if own and extra else document


def _parse_part(value: Json, path: str) -> Part:
    fields = Fields(value, path)
    reader = _READERS.get(fields.need_text("type"))
    return reader(fields) if reader else Opaque(NAME, value)


def _parse_text(fields: Fields) -> Part:
    return Text(fields.need_text("text"), fields.rest())


def _parse_refusal(fields: Fields) -> Part:
    return RefusalText(fields.need_text("refusal"), fields.rest())


def _parse_image(fields: Fields) -> Part:
    if isinstance(fields.peek("image_url"), str):  # some clients leave the object out
        url = fields.need_text("image_url")
    else:
        image = fields.need_object("image_url")
        url = image.need_text("url")
        fields.keep("image_url", image.rest())
    inline = split_data_url(url)
    if inline is None:
        return Media(kind="image", url=url, extra=fields.rest())
    return Media(kind="image", media_type=inline[0], data=inline[1], extra=fields.rest())


def _parse_audio(fields: Fields) -> Part:
    audio = fields.need_object("input_audio")
    data, form = audio.need_text("data"), audio.text("format")
    fields.keep("input_audio", audio.rest())
    return Media(kind="audio", data=data, media_type=form and f"audio/{form}", extra=fields.rest())


def _parse_file(fields: Fields) -> Part:
    file = fields.need_object("file")
    content, name = file.text("file_data"), file.text("filename")
    fields.keep("file", file.rest())
    inline = split_data_url(content) if content is not None else (None, None)
    media_type, data = inline or (None, content)  # bare base64 is seen too
    return Media(kind="file", media_type=media_type, data=data, name=name, extra=fields.rest())


def _render_media(media: Media) -> dict[str, Json]:
    if media.kind == "image":
        return {"type": "image_url", "image_url": {"url": data_url(media) or ""}}
    if media.kind == "audio" and media.data is not None:
        kind = media_type_of(media)
        form = _FORMATS.get(kind) or kind.removeprefix("audio/")
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
    if media.data is None and media.url is not None:
        return {"type": "text", "text": f"[{media.kind}: {media.url}]"}  # the wire has no files by address
    file = {"file_data": data_url(media), "filename": media.name}
    return {"type": "file", "file": {name: value for name, value in file.items() if value is not None}}


_READERS: dict[str, Callable[[Fields], Part]] = {
    "text": _parse_text,
    "image_url": _parse_image,
    "input_audio": _parse_audio,
    "file": _parse_file,
    "refusal": _parse_refusal,
}
