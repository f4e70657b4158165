"""Content parts: a string, or a list of text, image_url, input_audio, file and refusal parts.

A list of one plain text equals the string, and is written as the string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..._canonical.content import Json, Media, Opaque, Part, RefusalText, Text, ToolResult
from .._documents import (
    Fields,
    as_content,
    data_url,
    in_result,
    known_of,
    media_type_of,
    merged,
    split_data_url,
)
from .._documents import parse_content as content_of
from .names import NAME

_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}


def parse_content(value: Json, path: str) -> tuple[Part, ...]:
    """Return the parts of a message's `content`, which may be missing, a string or a list."""
    return content_of(value, path, _parse_part)


def parse_result_content(value: Json, path: str) -> tuple[Text | Media | Opaque, ...]:
    """Return the content of a tool's result; a part that a result cannot hold becomes `Opaque`."""
    return in_result(parse_content(value, path), value, NAME)


def render_content(parts: Iterable[Part], *, same_dialect: bool) -> Json:
    """Return the `content` of a message: a string if it is plain text alone."""
    return as_content(
        [document for part in parts if (document := render_part(part, same_dialect=same_dialect)) is not None]
    )


def render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    """Return the wire form of a part; None if `content` cannot hold it.

    Args:
        part: the part to write.
        same_dialect: True if the part's `extra` uses this dialect's field names.
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
    return merged(document, extra) if same_dialect and extra else document


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
    return image_at(url, fields)


def image_at(url: str | None, fields: Fields) -> Media:
    """Return an image, by URL or inline, with its remaining fields as `extra`."""
    inline = split_data_url(url) if url is not None else None
    if inline is None:
        return Media(kind="image", url=url, extra=fields.rest())
    return Media(kind="image", media_type=inline[0], data=inline[1], extra=fields.rest())


def parse_audio(fields: Fields) -> Part:
    """Return the part of an `input_audio` object, whose type was taken."""
    audio = fields.need_object("input_audio")
    data, form = audio.need_text("data"), audio.text("format")
    fields.keep("input_audio", audio.rest())
    return Media(kind="audio", data=data, media_type=form and f"audio/{form}", extra=fields.rest())


def _parse_file(fields: Fields) -> Part:
    file = fields.need_object("file")
    content, name = file.text("file_data"), file.text("filename")
    fields.keep("file", file.rest())
    inline = split_data_url(content) if content is not None else (None, None)
    media_type, data = inline or (None, content)  # some clients send bare base64
    return Media(kind="file", media_type=media_type, data=data, name=name, extra=fields.rest())


def _render_media(media: Media) -> dict[str, Json]:
    if media.kind == "image":
        return {"type": "image_url", "image_url": {"url": data_url(media) or ""}}
    if media.kind == "audio" and media.data is not None:
        return render_audio(media)
    if media.data is None and media.url is not None:
        return {"type": "text", "text": f"[{media.kind}: {media.url}]"}  # the wire has no files by URL
    file = {"file_data": data_url(media), "filename": media.name}
    return {"type": "file", "file": known_of(file)}


def render_audio(media: Media) -> dict[str, Json]:
    """Return an `input_audio` part."""
    kind = media_type_of(media)
    form = _FORMATS.get(kind) or kind.removeprefix("audio/")
    return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}


_READERS: dict[str, Callable[[Fields], Part]] = {
    "text": _parse_text,
    "image_url": _parse_image,
    "input_audio": parse_audio,
    "file": _parse_file,
    "refusal": _parse_refusal,
}
