"""A document on each line, for readers that split on line breaks.

JSON allows U+0085, U+2028 and U+2029 unescaped in a text. JSON Lines treats them as ordinary characters, but
`str.splitlines` treats them as line breaks.
"""

from __future__ import annotations

from .._canonical.content import Json
from ..dialects.kit import encode_json

_ENDS = {mark.encode(): f"\\u{ord(mark):04x}".encode() for mark in "\x85\u2028\u2029"}


def json_line(document: Json) -> bytes:
    """Return the bytes of a document with a final newline, and no other line break."""
    data = encode_json(document)
    for mark, escape in _ENDS.items():
        if mark in data:
            data = data.replace(mark, escape)
    return data + b"\n"
