"""Parts: text, thoughts, media, calls, results; all others are kept whole.

Rules:

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
from collections.abc import Callable
from typing import Literal

from ..._canonical.content import Blob, Json, Media, Opaque, Part, Reasoning, RefusalText, Text
from .._documents import known_of, media_type_of, merged, split_data_url
from .._packed import pack, unpack
from .fields import ProtoFields
from .names import NAME
from .results import parse_result
from .tools import parse_call

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
    signatures: list[str | None] = list(_signatures_of(part.blobs))
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


def _signatures_of(blobs: tuple[Blob, ...]) -> list[str]:
    """Return the signatures of this dialect."""
    return [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == SIGNATURE]


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
    "functionResponse": lambda fields: parse_result(fields, parse_part),
    "inlineData": _parse_inline,
    "fileData": _parse_file,
    "text": _parse_text,
}
