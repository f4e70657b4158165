"""The text of a text file that is sent inline, and its encoding in base64."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

_STANDARD = str.maketrans("-_", "+/")
"""From the URL-safe alphabet of base64 to the standard one (RFC 4648, section 5)."""


def text_in_file(kind: object, media_type: object, data: object) -> str | None:
    """Return the text in the inline data of a `Media`; None if it is not a text file, or not in UTF-8.

    Args:
        kind, media_type, data: the members of the `Media`.
    """
    if kind != "file" or not isinstance(media_type, str) or not media_type.lower().startswith("text/"):
        return None
    if not isinstance(data, str):
        return None
    # Clients also wrap lines, leave the padding out, or use the URL-safe alphabet (Gemini's SDK).
    plain = "".join(data.split()).rstrip("=").translate(_STANDARD)
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def text_as_data(text: str) -> str:
    """Return the text as the inline data of a `Media`."""
    return b64encode(text.encode("utf-8", "replace")).decode()
