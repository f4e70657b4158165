"""Request bodies that are compressed: read, and bounded by what they become, not by what came.

hypercorn and Quart leave a Content-Encoding to the application. gzip and deflate need nothing; zstd needs the package
`zstandard` (the extra `zstd`).
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any

from ..errors import Refusal

__all__ = ["decoded"]

_GZIP_OR_ZLIB = 47  # zlib: 32 finds out which of the two it is, 15 is the largest window


def decoded(body: bytes, encoding: str, cap: int) -> bytes | None:
    """The body without its encoding; None if that is over `cap` bytes.

    Raises:
        Refusal: 400 for a body that is not what its encoding says, 415 for an encoding that cannot be read here.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip" | "deflate":
            return _inflate(body, cap)
        case "zstd":
            return _from_zstd(body, cap)
        case other:
            raise Refusal(
                415, f"a body with Content-Encoding {other!r} cannot be read here", should_retry=False
            )


def _inflate(body: bytes, cap: int) -> bytes | None:
    reader = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        data = reader.decompress(body, cap + 1)
    except zlib.error as exc:
        raise Refusal(
            400, f"the body is not what its Content-Encoding says: {exc}", should_retry=False
        ) from exc
    if len(data) > cap:
        return None
    if not reader.eof:
        raise Refusal(400, "the body ends before its Content-Encoding does", should_retry=False)
    return data


def _from_zstd(body: bytes, cap: int) -> bytes | None:
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        hint = "a zstd body needs the package zstandard here: pip install 'triocept[zstd]'"
        raise Refusal(415, hint, should_retry=False) from None
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            data: bytes = reader.read(cap + 1)
    except zstandard.ZstdError as exc:
        raise Refusal(
            400, f"the body is not what its Content-Encoding says: {exc}", should_retry=False
        ) from exc
    return data if len(data) <= cap else None
