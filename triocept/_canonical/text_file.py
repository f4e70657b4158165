"""Convert files that are sent inline: from base64 to bytes and to text, and from text to base64."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress

_STANDARD = str.maketrans("-_", "+/")
"""Translation from the URL-safe alphabet of base64 to the standard alphabet (RFC 4648, section 5)."""


def inline_data(data: str) -> bytes | None:
    """Return the decoded data of a `Media`; None if the data is not base64."""
    with suppress(ValueError):
        return b64decode(data, validate=True)
    # Clients also wrap lines, leave the padding out, or use the URL-safe alphabet (Gemini's SDK).
    plain = "".join(data.split()).rstrip("=").translate(_STANDARD)
    with suppress(ValueError):
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    return None


def text_in_file(kind: object, media_type: object, data: object) -> str | None:
    """Return the text in the inline data of a `Media`; None if the data is not a text file in UTF-8.

    Args:
        kind, media_type, data: the fields of the `Media`.
    """
    if kind != "file" or not isinstance(media_type, str) or not media_type.lower().startswith("text/"):
        return None
    if not isinstance(data, str):
        return None
    found = inline_data(data)
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        return None


def text_as_data(text: str) -> str:
    return b64encode(text.encode("utf-8", "replace")).decode()
