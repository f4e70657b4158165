"""Server-sent events: bytes <-> events, sans-IO.

Rules (WHATWG HTML, "Parsing an event stream"):

1. A line ends with LF, CR or CR LF, wherever the bytes are split; one BOM at the start is skipped.
2. A line that starts with a colon is a comment; one space behind a field's colon is not part of the value.
3. Several `data` lines make one event, joined with LF. An empty line ends the event; one without data is
   none.
4. An event that the end of the stream cuts is none.
5. Memory is bounded by one event, whose size is capped.
"""

from __future__ import annotations

import re

import msgspec

from ..errors import DialectError

MAX_EVENT = 64 * 1024 * 1024
"""The cap on one event: twice the 32 MiB that Anthropic allows a whole request."""


class FrameEnd(msgspec.Struct, frozen=True, kw_only=True):
    r"""Where bytes of a stream may be cut: behind each match.

    Of documents with a byte 0x1e before and a line feed behind each, say::

        FrameEnd(pattern=re.compile(rb"\n"), longest=0, last=re.compile(rb"(?!)"))
    """

    pattern: re.Pattern[bytes]
    """What an end looks like, beyond doubt: it is looked for in what came so far."""
    longest: int
    """Bytes of an end that may have come before the last of it: 0 where an end is one byte."""
    last: re.Pattern[bytes]
    """What an end looks like that nothing follows, where `pattern` would wait for more: it is looked for when the
    stream is over. `(?!)`, which is found nowhere, where `pattern` never waits."""


SSE_FRAMES = FrameEnd(
    pattern=re.compile(
        rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))"
    ),  # a CR at the end may be half of a CR LF
    longest=3,
    last=re.compile(rb"(?:\r\n|\n|\r(?!\n))\r\Z"),
)
"""Behind an empty line."""

_BOM = b"\xef\xbb\xbf"


class SSE(msgspec.Struct, frozen=True):
    """One event."""

    data: bytes
    """UTF-8, as it came."""
    event: str = ""
    """Its name; empty where there is none (the browser's "message")."""
    id: str | None = None
    """The last event id that the stream has told so far."""


class SSEDecoder:
    """Takes bytes as they come, gives whole events.

    Args:
        max_event: the most bytes that one event may have.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._partial: list[bytes] = []  # of the line that is not whole yet; a list, for tiny pieces
        self._size = 0  # of the event so far
        self._after_cr = False
        self._first = True
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, data: bytes) -> list[SSE]:
        """The events that `data` completes.

        Raises:
            DialectError: one event is larger than the cap.
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        events: list[SSE] = []
        for line in data.splitlines(keepends=True):
            self._size += len(line)
            if self._size > self._max_event:
                raise DialectError(f"a server-sent event is larger than {self._max_event} bytes")
            if not line.endswith((b"\n", b"\r")):
                self._partial.append(line)
                continue
            if self._partial:
                line = b"".join([*self._partial, line])
                self._partial.clear()
            if self._first:
                self._first = False
                line = line.removeprefix(_BOM)
            self._line(line.rstrip(b"\r\n"), events)
        self._after_cr = data.endswith(b"\r")
        return events

    def _line(self, line: bytes, events: list[SSE]) -> None:
        if not line:
            if self._data:
                events.append(SSE(b"\n".join(self._data), self._event, self._id))
                self._data = []
            self._event, self._size = "", 0
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif not self._data:
            self._size = 0  # a comment between events is kept by nobody


def events_pattern(data: bytes, event: bytes | None = None) -> re.Pattern[bytes]:
    """What whole events match, one or more, of one line of data each.

    Args:
        data: a pattern of how the data begins.
        event: a pattern of the name, where one is told; None: none is.
    """
    name = b"" if event is None else rb"(?:event: ?(?:%b)\r?\n)?" % event
    return re.compile(rb"(?:%bdata: ?(?:%b)[^\r\n]*+(?:\r\n\r\n|\n\n))++" % (name, data))


def encode_sse(data: bytes | str, event: str | None = None) -> bytes:
    """One event, framed; `data` may have several lines."""
    if isinstance(data, str):
        data = data.encode()
    head = f"event: {event}\n".encode() if event else b""
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    return head + b"data: " + data + b"\n\n"
