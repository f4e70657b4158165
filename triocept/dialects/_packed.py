"""Opaque blobs of other providers, packed into the one opaque text that agents of a dialect send back unchanged.

A signature is useful at its own provider only, and an agent keeps the slot of its own wire only. So a foreign blob
travels to the agent in that slot, and comes back in it. No provider ever receives a packed text: each gets its own
blobs.

The text is base64, which Gemini's slot requires; an SDK may send it back in the URL-safe alphabet.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from .._canonical.content import Blob
from ..errors import DialectError
from ._documents import decode_json, encode_json

_MARK = b"triocept-blobs:"  # 15 bytes, so that every packed text begins with its base64
_BEGIN = base64.b64encode(_MARK).decode()


def pack(blobs: tuple[Blob, ...], dialect: str) -> str | None:
    """Return the blobs of other dialects as one text; None if all blobs are of this dialect."""
    foreign = [blob for blob in blobs if blob.dialect != dialect]
    return base64.b64encode(_MARK + encode_json(foreign)).decode() if foreign else None


def unpack(text: str) -> tuple[Blob, ...]:
    """Return the blobs in a text that `pack` made; no blobs for any other text."""
    if not text.startswith(_BEGIN):
        return ()
    try:
        packed = base64.b64decode(text.translate(_STANDARD), validate=True)
        return msgspec.convert(decode_json(packed.removeprefix(_MARK)), tuple[Blob, ...])
    except (binascii.Error, DialectError, msgspec.ValidationError):
        return ()


_STANDARD = str.maketrans("-_", "+/")
