"""Decompress request bodies. The size limit applies to the decompressed body.

Rules:

1. A body is inflated a little at a time, with schedule points between the steps: 50 KB of gzip may become 50 MB.
2. Several members of gzip (RFC 1952, 2.2) or frames of zstd (RFC 8878, 3) are one body. Other bytes after the last
   member are an error, and so is a body that ends within a member.

hypercorn and Quart do not decode a Content-Encoding. gzip and deflate need no package; zstd needs the package
`zstandard` (the extra `zstd`).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Protocol

import trio

from ..errors import Refusal

_GZIP_OR_ZLIB = 47  # zlib: 32 detects gzip or zlib, 15 is the largest window
_GZIP = 31
_SLICE = 512
"""Number of compressed bytes that are inflated in one step. With zlib, they become at most 0.5 MB. With zstd, 3 bytes
can encode a block of 128 KiB, so they become at most 22 MB."""
_STEP = 256 * 1024
"""Number of bytes, compressed and decoded together, between two schedule points."""
_ZSTD_WINDOW = 8 * 1024 * 1024
"""Maximum window of a frame, in bytes. Every decoder should support this size (RFC 8878, 3.1.1.1.2)."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes) -> bytes: ...


async def decoded(body: bytes, encoding: str, cap: int) -> bytes:
    """Return the decompressed body.

    Raises:
        Refusal: 400 if the body is not valid in its encoding; 413 if the decoded size exceeds `cap` bytes; 415 if the
            encoding is not supported.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip" | "deflate":
            return await _decode(
                body,
                cap,
                lambda: zlib.decompressobj(_GZIP_OR_ZLIB),
                lambda: zlib.decompressobj(_GZIP),
                zlib.error,
            )
        case "zstd":
            try:
                zstandard = importlib.import_module("zstandard")
            except ModuleNotFoundError:
                hint = "to read a zstd body, the endpoint needs the package zstandard: pip install 'triocept[zstd]'"
                raise Refusal(415, hint, should_retry=False) from None
            frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj
            return await _decode(body, cap, frame, frame, zstandard.ZstdError)
        case other:
            text = (
                f"the endpoint cannot decode a body with Content-Encoding {other!r}: send the body as gzip, deflate or "
                "zstd, or without an encoding"
            )
            raise Refusal(415, text, should_retry=False)


async def _decode(
    body: bytes,
    cap: int,
    first: Callable[[], _Decoder],
    further: Callable[[], _Decoder],
    broken: type[Exception],
) -> bytes:
    decoder = first()
    pieces: list[bytes] = []
    size = since = 0
    for start in range(0, len(body), _SLICE):
        data = body[start : start + _SLICE]
        while data:
            if decoder.eof:
                decoder = further()
            try:
                piece = decoder.decompress(data)
            except broken as exc:
                raise _not_so(str(exc)) from exc
            data = decoder.unused_data if decoder.eof else b""
            pieces.append(piece)
            size += len(piece)
            since += len(piece) + _SLICE
        if size > cap:
            raise Refusal(413, f"the decoded body is larger than {cap} bytes", should_retry=False)
        if since > _STEP:
            since = 0
            await trio.lowlevel.checkpoint()
    if not decoder.eof:
        raise _not_so("the encoded data is cut off at the end of the body")
    return b"".join(pieces)


def _not_so(why: str) -> Refusal:
    return Refusal(400, f"the body does not match its Content-Encoding: {why}", should_retry=False)
