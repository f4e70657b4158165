"""The chunked transfer coding, read (RFC 9112, 7.1). Sans-IO."""

from __future__ import annotations

import re
from typing import final

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\x00]*\r\n")
_MAX_LINE = 16 * 1024
"""Bytes of a line that is not of the body."""


@final
class ChunkedDecoder:
    """Takes a body's bytes as they come, gives what is in its chunks."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the last chunk has come, and all that belongs to it."""
        self.rest = b""
        """What has come and was not read yet; once the body has ended, what does not belong to it."""
        self.fault: str | None = None
        """Why what comes next is no chunk; what came before it counts, as it would if it had come by itself."""
        self._left = 0  # bytes of the chunk that is being read
        self._close = False  # whether the line end behind it is awaited
        self._trailers = False  # whether the last chunk has come

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body: a chunk need not be whole.

        Raises:
            ValueError: this is not the coding, and nothing before that adds to the body; and from then on.
        """
        self.check()
        if self.rest:
            data = self.rest + data
        elif (whole := self._single(data)) is not None:
            return whole
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._close = not self._left
            elif (after := self._read_line(data, at)) is not None:
                at = after
            else:
                break
        self.rest = data[at:]
        if not pieces:
            self.check()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check(self) -> None:
        """Raise ValueError if there is a fault."""
        if self.fault is not None:
            raise ValueError(self.fault)

    def _single(self, data: bytes) -> bytes | None:
        """What is in `data`, where that is one chunk and all of it: so come most events."""
        if self._left or self._close or self._trailers or (found := _SIZE_LINE.match(data)) is None:
            return None
        start, end, size = found.end(), len(data) - 2, int(found[1], 16)
        return data[start:end] if size and start + size == end and data.endswith(b"\r\n") else None

    def _read_line(self, data: bytes, at: int) -> int | None:
        """As `_line`; None, too, where there is a fault."""
        try:
            return self._line(data, at)
        except ValueError as exc:
            self.fault = str(exc)
            return None

    def _line(self, data: bytes, at: int) -> int | None:
        """Read a line that is not of the body; where the next one begins, or None where it is not whole."""
        if self._close or self._trailers:
            end = data.find(b"\r\n", at)
            if self._close and (end if end >= 0 else len(data.rstrip(b"\r"))) > at:
                raise ValueError("a chunk is longer than it said")
            if end > at and _TRAILER.match(data, at) is None:
                raise ValueError("what stands behind the last chunk is no header")
            if end >= 0:
                self.ended = self._trailers and end == at
                self._close = False
                return end + 2
        elif (found := _SIZE_LINE.match(data, at)) is not None:
            self._left = int(found[1], 16)
            self._trailers = not self._left
            return found.end()
        elif b"\n" in data[at:]:
            raise ValueError("a chunk does not say how long it is")
        if len(data) - at > _MAX_LINE:
            raise ValueError(f"a line between chunks is longer than {_MAX_LINE} bytes")
        return None
