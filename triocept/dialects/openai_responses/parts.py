"""Content parts: a string, or a list of input_text, input_image, input_file, input_audio, output_text and refusal.

Rules:

1. A list of one plain text equals the string, and is written as the string.
2. Text of the model is `output_text`, text for the model `input_text`; a part that came under another type keeps it.
3. An unknown part is kept whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..._canonical.content import Json, Media, Opaque, Part, RefusalText, Text, ToolResult
from .._documents import Fields, data_url, in_result, known_of, merged, split_data_url
from .._documents import parse_content as content_of
from ..openai_chat.parts import image_at, parse_audio, render_audio
from .names import NAME

_LISTS = ("annotations", "logprobs")


def parse_content(value: Json, path: str) -> tuple[Part, ...]:
    """Return the parts of an input message's `content`, which may be missing, a string or a list."""
    return content_of(value, path, _parse_part)


def result_content(value: Json, path: str) -> tuple[Text | Media | Opaque, ...]:
    """Return the output of a tool; a part that a result cannot hold becomes `Opaque`."""
    return in_result(parse_content(value, path), value, NAME)


def parse_output_text(fields: Fields, usual: str = "output_text") -> Text | RefusalText:
    """Return a part of a message that the model wrote; `type` may have been taken."""
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


def render_parts(parts: Iterable[Part], *, same_dialect: bool) -> list[dict[str, Json]]:
    """Return the parts of an input message or of a tool's output.

    Args:
        parts: the parts to write.
        same_dialect: True if the parts' `extra` uses this dialect's field names.
    """
    return [
        document for part in parts if (document := _render_part(part, same_dialect=same_dialect)) is not None
    ]


def output_text(part: Text | RefusalText, *, same_dialect: bool, answer: bool) -> dict[str, Json]:
    """Return a part of a message that the model wrote; in an answer, it has all its lists."""
    document: dict[str, Json]
    if isinstance(part, RefusalText):
        document = {"type": "refusal", "refusal": part.text}
    else:
        document = {"type": "output_text", "text": part.text, "annotations": []}
        if answer:
            document["logprobs"] = []
    extra = (
        {name: value for name, value in (part.extra or {}).items() if name not in _PLACES}
        if same_dialect
        else {}
    )
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
    if isinstance(fields.peek("image_url"), dict):  # the form of chat completions, which some clients send
        image = fields.need_object("image_url")
        url: str | None = image.need_text("url")
        fields.keep("image_url", image.rest())
    else:
        url = fields.text("image_url")
    return image_at(url, fields)


def _parse_file(fields: Fields, value: Json) -> Part:
    content, url, name = fields.text("file_data"), fields.text("file_url"), fields.text("filename")
    inline = split_data_url(content) if content is not None else (None, None)
    media_type, data = inline or (None, content)  # some clients send bare base64
    return Media(kind="file", url=url, media_type=media_type, data=data, name=name, extra=fields.rest())


def _render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    document: dict[str, Json]
    match part:
        case Text(text=text) | RefusalText(text=text):
            document = {"type": "input_text", "text": text}
        case Media():
            document = _render_media(part, same_dialect=same_dialect)
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    if not same_dialect or isinstance(part, ToolResult) or not part.extra:
        return document
    both: dict[str, Json] = merged(document, part.extra)
    return both


def _render_media(media: Media, *, same_dialect: bool) -> dict[str, Json]:
    url = data_url(media)
    if url is None and not (same_dialect and media.extra):  # the part may have the id of a file
        return {"type": "input_text", "text": f"[{media.name or media.kind}: not shown]"}
    if media.kind == "image":
        image = {"type": "input_image", "image_url": url, "detail": None if same_dialect else "auto"}
        return known_of(image)
    if media.kind == "audio" and media.data is not None:
        return render_audio(media)
    file = {"file_url": media.url, "file_data": url if media.url is None else None, "filename": media.name}
    return {"type": "input_file", **known_of(file)}


_READERS: dict[str, Callable[[Fields, Json], Part]] = {
    "input_text": _parse_text,
    "output_text": _parse_text,
    "text": _parse_text,
    "refusal": _parse_text,
    "input_image": _parse_image,
    "input_file": _parse_file,
    "input_audio": lambda fields, _: parse_audio(fields),
}
