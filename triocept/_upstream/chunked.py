"""A decoder, without I/O, for the chunked transfer coding of HTTP/1.1 (RFC 9112, 7.1)."""

from __future__ import annotations

import re
from typing import final

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\x00]*\r\n")
_MAX_LINE = 16 * 1024
"""Maximum bytes of a line between chunks."""


@final
class ChunkedDecoder:
    """A decoder for the body of one message. The bytes can be passed in pieces of any size."""

    def __init__(self) -> None:
        self.ended = False
        """True if the last chunk has arrived, including the trailers after it."""
        self.rest = b""
        """Received bytes that are not decoded yet. When the body has ended, these are the bytes after the body."""
        self.fault: str | None = None
        """Description of the error in the bytes that follow the decoded bytes. None if no error was found."""
        self._left = 0  # bytes left of the current chunk
        self._close = False  # True if the line end behind a chunk is expected
        self._trailers = False  # True if the last chunk has arrived

    def feed(self, data: bytes) -> bytes:
        """Decode more received bytes.

        Return the bytes of the body in `data`, including the bytes of an incomplete chunk.

        Raise ValueError if the next bytes are not valid in this coding. If valid bytes of the body precede the invalid
        bytes, return the valid bytes first. The next call then raises the error.
        """
        self.check()
        if self.rest:
            data = self.rest + data
        elif (
            not (self._left or self._close or self._trailers)
            and (found := _SIZE_LINE.match(data)) is not None
        ):
            start, end, length = found.end(), len(data) - 2, int(found[1], 16)
            if length and start + length == end and data.endswith(b"\r\n"):
                return data[start:end]  # exactly one chunk, as for most events
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
        if self.fault is not None:
            raise ValueError(self.fault)

    def _read_line(self, data: bytes, at: int) -> int | None:
        """Parse the line at index `at`.

        Return the index after the line, or None if the line is incomplete or invalid.
        """
        if self._close or self._trailers:
            end = data.find(b"\r\n", at)
            if self._close and (end if end >= 0 else len(data.rstrip(b"\r"))) > at:
                self.fault = "a chunk is longer than its size line states"
                return None
            if end > at and _TRAILER.match(data, at) is None:
                self.fault = "the line after the last chunk is not a header"
                return None
            if end >= 0:
                self.ended = self._trailers and end == at
                self._close = False
                return end + 2
        elif (found := _SIZE_LINE.match(data, at)) is not None:
            self._left = int(found[1], 16)
            self._trailers = not self._left
            return found.end()
        elif b"\n" in data[at:]:
            self.fault = "a chunk has no size line"
            return None
        if len(data) - at > _MAX_LINE:
            self.fault = f"a line between chunks is longer than {_MAX_LINE} bytes"
            return None
        return None
