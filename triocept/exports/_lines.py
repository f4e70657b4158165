"""A document on a line of its own, for whoever reads lines.

JSON lets U+0085, U+2028 and U+2029 stand in a text as they are. To JSON Lines they are characters like any other, and
to `str.splitlines` the end of a line.
"""

from __future__ import annotations

from .._canonical.content import Json
from ..dialects.kit import encode_json

_ENDS = {mark.encode(): f"\\u{ord(mark):04x}".encode() for mark in "\x85\u2028\u2029"}


def json_line(document: Json) -> bytes:
    """The bytes of a document, with the newline behind it, and nothing else in it that ends a line."""
    data = encode_json(document)
    for mark, escape in _ENDS.items():
        if mark in data:
            data = data.replace(mark, escape)
    return data + b"\n"
