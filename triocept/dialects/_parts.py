"""Content that is a string or a list of parts, as most wires have it.

A list of one plain text and the string are the same content, and are written as the string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .._canonical.content import Json, Media, Opaque, Part, Text
from ._fields import read_text

__all__ = ["as_content", "in_result", "parse_content"]


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
