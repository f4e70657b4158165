"""Parser of streamed answers of generateContent.

Grammar::

    stream := response* response-with-finishReason response*   as server-sent events, or as a JSON array

Rules:

1. `Chunks` parses the responses. The first byte other than a space determines their framing: `[` begins an array,
   which comes piece by piece.
2. The finish reason is the only terminal fact: an end without it is a truncation. Usage may follow it, so
   `ResponseEnd` waits for the end of the bytes.
3. An error object in place of a response is the provider's failure. Among server-sent events, it may be a bare JSON
   object, on one line or on several: Google sends it in this form, and its Python SDK reads it.
4. Memory is bounded by one document, whose size is limited.
"""

from __future__ import annotations

import re

from ..._canonical.events import Event
from ..._util.sse import MAX_EVENT, SSE, SSEDecoder, events_pattern
from ...errors import DialectError
from .._documents import decode_json, hides_letters
from .._failures import error_of
from ..streams import StreamParser
from .response import Chunks, find_error, parse_error

_CHUNKS = events_pattern(rb"\{")
# Protobuf reads both spellings.
_DOUBT = re.compile(
    rb'"(?:error|finishReason|finish_reason|blockReason|block_reason|functionCall|function_call)"'
)


class Parser(StreamParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        self._framing = _Framing()
        self._chunks = Chunks()
        self._done = False

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for document in self._framing.feed(data):
            self._take(document, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CHUNKS.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._chunks.ending

    def close(self) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        for document in self._framing.close():
            self._take(document, events)
        self._done = True
        self._chunks.end(events)
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        if self._done or data.strip() == b"[DONE]":  # some gateways write it
            return
        document = decode_json(data)
        if find_error(document) is not None:
            raise error_of(parse_error(0, document), body=data.decode("utf-8", "replace"))
        self._chunks.take(document, events)


_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class _Framing:
    """A decoder of bytes into whole documents, as JSON."""

    def __init__(self) -> None:
        self._decoder: _Events | _Objects | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the documents that `data` completes.

        Raises:
            DialectError: a document is larger than the maximum.
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
        """Return the document whose last line ends with the bytes."""
        return self.feed(b"\n")


class _Objects:
    """A decoder of bytes into whole objects; bytes between objects are skipped."""

    def __init__(self, max_size: int = MAX_EVENT) -> None:
        self._max_size = max_size
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_text = False
        self._escaped = False

    @property
    def inside(self) -> bool:
        """True if an object has begun and not ended."""
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
            self._pieces.append(data[start:])
            self._size += len(data) - start
            if self._size > self._max_size:
                raise DialectError(f"one response of the array is larger than {self._max_size} bytes")
        return found

    def _ends(self, mark: bytes) -> bool:
        """Take one significant character; return True if an object ends with it."""
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


class _Events(SSEDecoder):
    """A decoder of server-sent events with bare objects among them."""

    def __init__(self) -> None:
        super().__init__()
        self._objects = _Objects()

    def _line(self, line: bytes, events: list[SSE]) -> None:
        if not self._objects.inside and not line.startswith(b"{"):
            super()._line(line, events)
            return
        events += [SSE(found) for found in self._objects.feed(line + b"\n")]
        self._size = 0  # the size is counted by `_Objects`
