"""Opaque blobs of other providers, packed into the one opaque text that agents of a dialect send back as they got it.

A signature is worth something at its own provider only, and agents keep the slot of their own wire only: so a foreign
blob goes to the agent in that slot, and comes back out of it. No provider ever sees one: each is sent its own.

The text is base64, for Gemini's slot must be; an SDK may send it back in the alphabet of URLs.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from .._canonical.content import Blob
from ..errors import DialectError
from ._documents import decode_json, encode_json

_MARK = b"triocept-blobs:"  # 15 bytes, so that its base64 is the beginning of every packed text
_BEGIN = base64.b64encode(_MARK).decode()


def pack(blobs: tuple[Blob, ...], dialect: str) -> str | None:
    """The blobs that are not of this dialect, as one text; None where there are none."""
    foreign = [blob for blob in blobs if blob.dialect != dialect]
    return base64.b64encode(_MARK + encode_json(foreign)).decode() if foreign else None


def unpack(text: str) -> tuple[Blob, ...]:
    """The blobs in a text that `pack` made; none in any other."""
    if not text.startswith(_BEGIN):
        return ()
    try:
        packed = base64.b64decode(text.translate(_STANDARD), validate=True)
        return msgspec.convert(decode_json(packed.removeprefix(_MARK)), tuple[Blob, ...])
    except (binascii.Error, DialectError, msgspec.ValidationError):
        return ()


_STANDARD = str.maketrans("-_", "+/")
