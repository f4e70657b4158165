"""Inline media: `data:` URLs, and the media types that wires leave out."""

from __future__ import annotations

import re

from .._canonical.content import Media

__all__ = ["data_url", "media_type_of", "split_data_url"]

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
