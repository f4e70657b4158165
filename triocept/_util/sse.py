"""Convert bytes to server-sent events, and events to bytes, without I/O.

Rules (WHATWG HTML, "Parsing an event stream"):

1. A line ends with LF, CR or CR LF, wherever the bytes are split; one BOM at the start is skipped.
2. A line that starts with a colon is a comment; one space after a field's colon is not part of the value.
3. Several `data` lines make one event, joined with LF. An empty line ends the event; an event without data is dropped.
4. If the stream ends within an event, this event is dropped.
5. The decoder keeps at most one incomplete event in memory, and the size of an event is limited.
"""

from __future__ import annotations

import re

import msgspec

from ..errors import DialectError

MAX_EVENT = 64 * 1024 * 1024
"""Maximum bytes of one event: twice the 32 MiB that Anthropic allows for a whole request."""


class FrameEnd(msgspec.Struct, frozen=True, kw_only=True):
    r"""A rule that defines where the bytes of a stream may be cut: only after a match of `pattern` or `last`.

    For example, if each document begins with a byte 0x1e and ends with a line feed::

        FrameEnd(pattern=re.compile(rb"\n"), longest=0, last=re.compile(rb"(?!)"))
    """

    pattern: re.Pattern[bytes]
    """Pattern of the end of a document. The decoder searches for the pattern in the bytes that have arrived. The
    pattern must match only where the end is certain, whatever bytes follow."""
    longest: int
    """Maximum bytes that `pattern` matches, minus one: 0 if a match has one byte."""
    last: re.Pattern[bytes]
    """Pattern of the last document's end, used only when the stream has ended, because `pattern` may require further
    bytes. If `pattern` matches the end of every document, `last` is `(?!)`, which never matches."""


SSE_FRAMES = FrameEnd(
    # A CR at the end may be half of a CR LF.
    pattern=re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))"),
    longest=3,
    last=re.compile(rb"(?:\r\n|\n|\r(?!\n))\r\Z"),
)
"""The rule for server-sent events: the stream may be cut after an empty line."""

_BOM = b"\xef\xbb\xbf"


class SSE(msgspec.Struct, frozen=True):
    """A server-sent event."""

    data: bytes
    """The data in UTF-8, as received."""
    event: str = ""
    """Name of the event; empty if the event has no name. (A browser then uses the name "message".)"""
    id: str | None = None
    """The latest event id in the stream, up to and including this event; None if there was no id."""


class SSEDecoder:
    """A decoder that accepts bytes in pieces of any size, and returns whole events.

    Args:
        max_event: maximum bytes of one event.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._partial: list[bytes] = []  # of the incomplete line; a list, for tiny pieces
        self._size = 0  # of the event so far
        self._after_cr = False
        self._first = True
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, data: bytes) -> list[SSE]:
        """Return the events that `data` completes.

        Raises:
            DialectError: an event is larger than the limit.
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        events: list[SSE] = []
        for line in data.splitlines(keepends=True):
            self._size += len(line)
            if self._size > self._max_event:
                raise DialectError(
                    f"a server-sent event is larger than the maximum of {self._max_event} bytes"
                )
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
            self._size = 0  # a comment between events is dropped


def events_pattern(data: bytes, event: bytes | None = None) -> re.Pattern[bytes]:
    """Return a pattern that matches one or more complete events. Each event has one line of data.

    Args:
        data: a pattern of the beginning of an event's data.
        event: a pattern of the event's name; None for events without a name.
    """
    name = b"" if event is None else rb"(?:event: ?(?:%b)\r?\n)?" % event
    return re.compile(rb"(?:%bdata: ?(?:%b)[^\r\n]*+(?:\r\n\r\n|\n\n))++" % (name, data))


def encode_sse(data: bytes | str, event: str | None = None) -> bytes:
    """Return the bytes of one event. `data` may have several lines."""
    if isinstance(data, str):
        data = data.encode()
    head = f"event: {event}\n".encode() if event else b""
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    return head + b"data: " + data + b"\n\n"
