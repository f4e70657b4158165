"""How a stream is framed: as server-sent events, or as one JSON array that comes piece by piece.

Rules:

1. The first byte that is no space tells: `[` begins an array.
2. Among server-sent events, an error may stand as a bare JSON object, on one line or on several: so Google sends it,
   and so its Python SDK reads it.
3. Memory is bounded by one document, whose size is capped.
"""

from __future__ import annotations

import re

from ..._sse import MAX_EVENT, SSE, SSEDecoder
from ...errors import DialectError

__all__ = ["Framing"]

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class Framing:
    """Takes bytes as they come, gives whole documents, as JSON."""

    def __init__(self) -> None:
        self._decoder: _Events | _Objects | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes.

        Raises:
            DialectError: one document is larger than the cap.
        """
        if self._decoder is None:
            data = data.lstrip()
            if not data:
                return []
            self._decoder = _Objects() if data.startswith(b"[") else _Events()
        if isinstance(self._decoder, _Objects):
            return self._decoder.feed(data)
        return [sse.data for sse in self._decoder.feed(data)]

    def close(self) -> list[bytes]:
        """The document whose last line the end of the bytes has completed."""
        return self.feed(b"\n")


class _Objects:
    """Takes bytes, gives the whole objects among them; what stands between them is left out."""

    def __init__(self, max_size: int = MAX_EVENT) -> None:
        self._max_size = max_size
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_text = False
        self._escaped = False

    @property
    def inside(self) -> bool:
        """Whether an object has begun and not ended."""
        return self._depth > 0

    def feed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        start = at = 0
        while at < len(data):
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            mark = (_INSIDE if self._in_text else _OUTSIDE).search(data, at)
            if mark is None:
                break
            at = mark.end()
            if not self._depth:
                start = mark.start()
            if self._ends(mark[0]):
                found.append(b"".join([*self._pieces, data[start:at]]))
                self._pieces, self._size = [], 0
        if self._depth:
            self._keep(data[start:])
        return found

    def _ends(self, mark: bytes) -> bool:
        """Take one character that has a meaning; whether an object ends with it."""
        if mark == b"\\":
            self._escaped = True
        elif mark == b'"':
            self._in_text = self._depth > 0 and not self._in_text
        elif mark == b"{":
            self._depth += 1
        elif self._depth:
            self._depth -= 1
            return not self._depth
        return False

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._max_size:
            raise DialectError(f"one response of the array is larger than {self._max_size} bytes")


class _Events(SSEDecoder):
    """Server-sent events, and bare objects among them."""

    def __init__(self) -> None:
        super().__init__()
        self._objects = _Objects()

    def _line(self, line: bytes, events: list[SSE]) -> None:
        if not self._objects.inside and not line.startswith(b"{"):
            super()._line(line, events)
            return
        events += [SSE(found) for found in self._objects.feed(line + b"\n")]
        self._size = 0  # counted by the objects
