"""JSON bytes <-> documents, for all dialects."""

from __future__ import annotations

import re

import msgspec

from .._canonical.content import Json
from .._unicode import mended
from ..errors import DialectError

__all__ = ["decode_json", "encode_json", "encode_text", "hides_letters", "types_come_first"]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_HIDDEN = re.compile(rb"\\u00[4-7]")


def decode_json(data: bytes | str) -> Json:
    r"""The document.

    A lone surrogate (`"\ud83d"`: JavaScript's JSON.stringify writes one where an emoji was cut) is read as
    U+FFFD.

    Raises:
        DialectError: these bytes are not JSON.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeError) as exc:
        mended = _without_lone_surrogates(data)
        try:
            if mended is not None:
                return _decode(mended)
        except (msgspec.DecodeError, UnicodeError):
            pass
        raise DialectError(f"not valid JSON: {exc}") from exc
    except RecursionError as exc:
        raise DialectError("not valid JSON: it is nested too deeply") from exc


def encode_json(document: Json) -> bytes:
    """The bytes of a document."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return _encode(mended(document))


def encode_text(text: str) -> bytes:
    """The bytes of a JSON string: the hot path of every streamed delta."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(mended(text))


def _without_lone_surrogates(data: bytes | str) -> bytes | None:
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    mended = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)
    return mended if mended != raw else None


def hides_letters(data: bytes) -> bool:
    """Whether an ASCII letter, or `_`, may be escaped in JSON: a name that has one is not found by its letters.

    No serializer is known that does it; those that have HTML in mind, as Go's, escape `<`, `>`, `&`.
    """
    return b"\\u00" in data and _HIDDEN.search(data) is not None


def types_come_first(data: bytes) -> bool:
    """Whether each `type` is its object's first field, so that none has two: the last would count."""
    return data.count(b'"type"') == data.count(b'{"type"')
