"""Streams of JSON documents, one on each line (NDJSON): bytes -> lines.

Rules:

1. A line ends with LF, CR or CR LF, wherever the bytes are split: none of them stands in a JSON document that is on one
   line. Empty lines are none.
2. Memory is bounded by one line, whose size is capped.
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
"""Behind a line."""


class LineDecoder:
    """Takes bytes as they come, gives whole lines."""

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        self._max_line = max_line
        self._partial: list[bytes] = []  # of the line that is not whole yet; a list, for tiny pieces
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends.

        Raises:
            DialectError: one line is larger than the cap.
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
        """The last line, where no end is behind it; it may be half of one."""
        line = b"".join(self._partial).strip()
        self._partial.clear()
        self._size = 0
        return [line] if line else []


def encode_line(document: Json) -> bytes:
    """One document, with the end of its line."""
    return encode_json(document) + b"\n"
