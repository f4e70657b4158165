"""A call's arguments on a wire where they are an object.

Arguments that are none (invalid JSON, cut JSON, free text) are `{"_raw": "the text"}`, which is read back as that
text.
"""

from __future__ import annotations

from .._canonical.content import Json
from ..errors import DialectError
from ._json import decode_json, encode_json

__all__ = ["RAW", "is_object", "object_of", "text_of"]

RAW = "_raw"


def object_of(arguments: str) -> dict[str, Json]:
    """The arguments as an object."""
    if not arguments.strip():
        return {}
    try:
        found = decode_json(arguments)
    except DialectError:
        found = None
    return found if isinstance(found, dict) else {RAW: arguments}


def is_object(arguments: str) -> bool:
    """Whether the arguments are an object, or nothing at all, which is an empty one."""
    if not arguments.strip() or arguments == "{}":
        return True
    try:
        return isinstance(decode_json(arguments), dict)
    except DialectError:
        return False


def text_of(value: dict[str, Json]) -> str:
    """The text of an object: its JSON, or what `object_of` had to wrap."""
    raw = value.get(RAW) if len(value) == 1 else None
    if isinstance(raw, str) and object_of(raw) == value:
        return raw
    return encode_json(value).decode()
