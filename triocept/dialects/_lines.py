"""Streams of JSON documents, one per line (NDJSON): bytes to lines.

Rules:

1. A line ends with LF, CR or CR LF, wherever the bytes are split: a JSON document on one line contains no line end.
   Empty lines are skipped.
2. Memory is bounded by one line, whose size is limited.
"""

from __future__ import annotations

import re

from .._canonical.content import Json
from .._util.sse import MAX_EVENT, FrameEnd
from ..errors import DialectError
from ._documents import encode_json

LINE_FRAMES = FrameEnd(
    pattern=re.compile(rb"\r\n|\n|\r(?=[^\n])"),  # a CR at the end may be half of a CR LF
    longest=1,
    last=re.compile(rb"\r\Z"),
)
"""The end of a line, as a frame end."""


class LineDecoder:
    """A decoder of bytes into whole lines."""

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        self._max_line = max_line
        self._partial: list[
            bytes
        ] = []  # the pieces of the incomplete line; a list, because pieces may be tiny
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their line ends.

        Raises:
            DialectError: a line is larger than the maximum.
        """
        lines: list[bytes] = []
        for piece in data.splitlines(keepends=True):
            self._partial.append(piece)
            self._size += len(piece)
            if self._size > self._max_line:
                raise DialectError(f"a line of the stream is larger than {self._max_line} bytes")
            if piece.endswith((b"\n", b"\r")):
                lines += self.close()
        return lines

    def close(self) -> list[bytes]:
        """Return the last line if it has no line end; it may be incomplete."""
        line = b"".join(self._partial).strip()
        self._partial.clear()
        self._size = 0
        return [line] if line else []


def encode_line(document: Json) -> bytes:
    """Return one document with its line end."""
    return encode_json(document) + b"\n"
