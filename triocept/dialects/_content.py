"""Content that is a string or a list of parts, as most wires have it, and the inline media in it.

A list of one plain text and the string are the same content, and are written as the string. Media are `data:` URLs, or
base64 whose media type wires leave out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from .._canonical.content import Json, Media, Opaque, Part, Text
from ._fields import read_text

__all__ = ["as_content", "in_result", "parse_content", "data_url", "media_type_of", "split_data_url"]


def parse_content(value: Json, path: str, parse_part: Callable[[Json, str], Part]) -> tuple[Part, ...]:
    """The parts of a `content`, which may be missing, a string or a list."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(parse_part(item, f"{path}[{number}]") for number, item in enumerate(value))
    text = read_text(value, path)
    return (Text(text),) if text else ()


def in_result(parts: Iterable[Part], value: Json, dialect: str) -> tuple[Text | Media | Opaque, ...]:
    """The parts of a tool's result, which were parsed from `value`: what cannot be in one stays as it is."""
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Opaque(dialect, value[number])
        for number, part in enumerate(parts)
    )


def as_content(documents: Sequence[dict[str, Json]], kind: str = "text") -> Json:
    """Rendered parts as a `content`; a text has this `type`."""
    if not documents:
        return ""
    if len(documents) == 1 and documents[0].keys() == {"type", "text"} and documents[0]["type"] == kind:
        return documents[0]["text"]
    return documents


_DATA_URL = re.compile(r"data:([^,]*?);base64,", re.IGNORECASE)
_MAGIC = (
    ("/9j/", "image/jpeg"),
    ("iVBOR", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBER", "application/pdf"),
)
_DEFAULTS = {"image": "image/png", "audio": "audio/wav", "file": "application/octet-stream"}


def split_data_url(url: str) -> tuple[str | None, str] | None:
    """Media type (None: not told) and base64 of a `data:` URL; None for any other, or one without base64."""
    if url[:5].lower() != "data:":
        return None
    found = _DATA_URL.match(url)
    return (found[1] or None, url[found.end() :]) if found else None


def media_type_of(media: Media) -> str:
    """Its media type: as told, as its first bytes tell, or the usual one of its kind."""
    if media.media_type:
        return media.media_type
    data = media.data or ""
    return next((name for magic, name in _MAGIC if data.startswith(magic)), _DEFAULTS[media.kind])


def data_url(media: Media) -> str | None:
    """Where it lies, or the whole of it as a `data:` URL; None where it is neither."""
    if media.url is not None or media.data is None:
        return media.url
    return f"data:{media_type_of(media)};base64,{media.data}"
