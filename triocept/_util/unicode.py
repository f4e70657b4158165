"""Replace surrogates in texts, so that the texts can be encoded in UTF-8, and so be sent and written to files.

A Python `str` may contain surrogates: halves of a pair that JavaScript has split, and the result of `surrogateescape`
for bytes that are not UTF-8. UTF-8, and so JSON, cannot encode surrogates. Adjacent halves are joined to the character
that they encode. U+FFFD replaces any other surrogate, as the Unicode Standard recommends (3.9, "U+FFFD Substitution").
"""

from __future__ import annotations

from typing import Any


def mended_text(text: str) -> str:
    """Return `text` with its surrogates joined or replaced.

    If `text` contains no surrogates, return the same object.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mended(value: Any) -> Any:
    """Return a JSON value in whose texts and keys all surrogates are joined or replaced."""
    if isinstance(value, str):
        return mended_text(value)
    if isinstance(value, dict):
        return {mended(key): mended(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mended(inner) for inner in value]
    return value
