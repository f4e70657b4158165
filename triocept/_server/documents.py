"""JSON that a client sends.

A large body is decoded piece by piece, with a schedule point between: agents send five megabytes when they have looked
at a picture, and other agents must not wait for that. No piece can be smaller than one item of its longest lists.
"""

from __future__ import annotations

import msgspec
import trio

from .._canonical.content import Json
from ..dialects._json import decode_json
from ..errors import DialectError

__all__ = ["read_body", "read_json"]

_LARGE = 512 * 1024
"""Bytes that are decoded in one go: about half a millisecond."""
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def read_body(body: bytes) -> Json:
    """Decode a body. A schedule point only where it is large.

    Raises:
        DialectError: it is no JSON.
    """
    if len(body) <= _LARGE:
        return read_json(body, "the body")
    try:
        return await _read_large(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return read_json(body, "the body")  # no object, or not JSON: the error says where, and of the whole


def read_json(data: bytes | str, what: str) -> Json:
    """Decode a document.

    Raises:
        DialectError: it is no JSON.
    """
    try:
        return decode_json(data)
    except DialectError as exc:
        raise DialectError(f"{what} is {exc}") from exc


async def _read_large(body: bytes) -> Json:
    document: dict[str, Json] = {}
    left = _LARGE
    for name, value in _fields(body).items():
        await trio.lowlevel.checkpoint()
        if bytes(memoryview(value)[:1]) != b"[":
            document[name] = msgspec.json.decode(value)
            continue
        document[name] = items = []
        for item in _items(value):
            items.append(msgspec.json.decode(item))
            left -= len(memoryview(item))
            if left < 0:
                left = _LARGE
                await trio.lowlevel.checkpoint()
    return document
