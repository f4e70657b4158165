"""Content parts: a string, or a list of input_text, input_image, input_file, input_audio, output_text and refusal.

Rules:

1. A list of one plain text and the string are the same content, and are written as the string.
2. What the model wrote is `output_text`, what it reads `input_text`; a part that came under another name keeps it.
3. A part that is not known is kept whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..._canonical.content import Json, Media, Opaque, Part, RefusalText, Text, ToolResult
from .._fields import Fields, merged, read_text
from .._media import data_url, media_type_of, split_data_url
from .names import NAME

__all__ = [
    "as_content",
    "output_text",
    "parse_content",
    "parse_output_text",
    "render_parts",
    "result_content",
]

_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_LISTS = ("annotations", "logprobs")


def parse_content(value: Json, path: str) -> tuple[Part, ...]:
    """The parts of an input message's `content`, which may be missing, a string or a list."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(_parse_part(item, f"{path}[{number}]") for number, item in enumerate(value))
    text = read_text(value, path)
    return (Text(text),) if text else ()


def result_content(value: Json, path: str) -> tuple[Text | Media | Opaque, ...]:
    """The output of a tool: what cannot be in one stays as it is."""
    parts = parse_content(value, path)
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Opaque(NAME, value[number])
        for number, part in enumerate(parts)
    )


def parse_output_text(fields: Fields, usual: str = "output_text") -> Text | RefusalText:
    """A part of a message that the model wrote; `type` may have been taken."""
    kind = fields.text("type") or usual
    if kind == "refusal":
        return RefusalText(fields.text("refusal") or "", fields.rest())
    text = fields.text("text") or ""
    for name in _LISTS:
        if not fields.peek(name):
            fields.take(name)
    if kind != usual:
        fields.keep("type", kind)
    return Text(text, fields.rest())


def render_parts(parts: Iterable[Part], *, own: bool) -> list[dict[str, Json]]:
    """The parts of an input message or of a tool's output.

    Args:
        parts: what to write.
        own: whether their `extra` is in this dialect's words.
    """
    return [document for part in parts if (document := _render_part(part, own=own)) is not None]


def as_content(documents: list[dict[str, Json]]) -> Json:
    """The parts as `content`: a string where they are only one plain text, or nothing."""
    if not documents:
        return ""
    if (
        len(documents) == 1
        and documents[0].keys() == {"type", "text"}
        and documents[0]["type"] == "input_text"
    ):
        return documents[0]["text"]
    return documents


def output_text(part: Text | RefusalText, *, own: bool, answer: bool) -> dict[str, Json]:
    """A part of a message that the model wrote; an answer's has all its lists."""
    document: dict[str, Json]
    if isinstance(part, RefusalText):
        document = {"type": "refusal", "refusal": part.text}
    else:
        document = {"type": "output_text", "text": part.text, "annotations": []}
        if answer:
            document["logprobs"] = []
    extra = {name: value for name, value in (part.extra or {}).items() if name not in _PLACES} if own else {}
    return {**document, **extra}


_PLACES = ("item", "content_index", "summary_index")


def _parse_part(value: Json, path: str) -> Part:
    fields = Fields(value, path)
    reader = _READERS.get(fields.need_text("type"))
    return reader(fields, value) if reader else Opaque(NAME, value)


def _parse_text(fields: Fields, value: Json) -> Part:
    fields.keep("type", value["type"])
    return parse_output_text(fields, "input_text")


def _parse_image(fields: Fields, value: Json) -> Part:
    if isinstance(fields.peek("image_url"), dict):  # chat's form, which some clients send
        image = fields.need_object("image_url")
        url: str | None = image.need_text("url")
        fields.keep("image_url", image.rest())
    else:
        url = fields.text("image_url")
    inline = split_data_url(url) if url is not None else None
    if inline is None:
        return Media(kind="image", url=url, extra=fields.rest())
    return Media(kind="image", media_type=inline[0], data=inline[1], extra=fields.rest())


def _parse_file(fields: Fields, value: Json) -> Part:
    content, url, name = fields.text("file_data"), fields.text("file_url"), fields.text("filename")
    inline = split_data_url(content) if content is not None else (None, None)
    media_type, data = inline or (None, content)  # bare base64 is seen too
    return Media(kind="file", url=url, media_type=media_type, data=data, name=name, extra=fields.rest())


def _parse_audio(fields: Fields, value: Json) -> Part:
    audio = fields.need_object("input_audio")
    data, form = audio.need_text("data"), audio.text("format")
    fields.keep("input_audio", audio.rest())
    return Media(kind="audio", data=data, media_type=form and f"audio/{form}", extra=fields.rest())


def _render_part(part: Part, *, own: bool) -> dict[str, Json] | None:
    document: dict[str, Json]
    match part:
        case Text(text=text) | RefusalText(text=text):
            document = {"type": "input_text", "text": text}
        case Media():
            document = _render_media(part, own=own)
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    if not own or isinstance(part, ToolResult) or not part.extra:
        return document
    both: dict[str, Json] = merged(document, part.extra)
    return both


def _render_media(media: Media, *, own: bool) -> dict[str, Json]:
    url = data_url(media)
    if url is None and not (own and media.extra):  # by the id of a file, perhaps
        return {"type": "input_text", "text": f"[{media.name or media.kind}: not shown]"}
    if media.kind == "image":
        image = {"type": "input_image", "image_url": url, "detail": None if own else "auto"}
        return {name: value for name, value in image.items() if value is not None}
    if media.kind == "audio" and media.data is not None:
        kind = media_type_of(media)
        form = _FORMATS.get(kind) or kind.removeprefix("audio/")
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
    file = {"file_url": media.url, "file_data": url if media.url is None else None, "filename": media.name}
    return {"type": "input_file", **{name: value for name, value in file.items() if value is not None}}


_READERS: dict[str, Callable[[Fields, Json], Part]] = {
    "input_text": _parse_text,
    "output_text": _parse_text,
    "text": _parse_text,
    "refusal": _parse_text,
    "input_image": _parse_image,
    "input_file": _parse_file,
    "input_audio": _parse_audio,
}
