"""Text that every wire and every file can hold.

A Python `str` may have surrogates in it: the halves of a pair that JavaScript cut in two, and what `surrogateescape`
makes of bytes that are no UTF-8. UTF-8 has no words for them, so JSON has none. Halves that stand together are joined
to their character; any other is U+FFFD, as the Unicode Standard has it (3.9, "U+FFFD Substitution").
"""

from __future__ import annotations

from typing import Any


def mended_text(text: str) -> str:
    """`text` without surrogates; the very `text` where it has none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mended(value: Any) -> Any:
    """A JSON value without surrogates, its keys included."""
    if isinstance(value, str):
        return mended_text(value)
    if isinstance(value, dict):
        return {mended(key): mended(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mended(inner) for inner in value]
    return value
