"""Base classes of a dialect's stream parser and stream renderer, which convert between bytes and events.

In many wire formats, only one part of a stream is open at a time. For such a format, a parser uses `EventBuilder`,
which creates the events of parts that follow one another. A renderer uses `PartSequence`, which puts the events of
overlapping parts in sequence.

Rules for streams of JSON documents, one per line (NDJSON):

1. A line ends with LF, CR or CR LF, because a JSON document on one line contains neither CR nor LF. The decoder accepts
   the bytes in pieces that are split at any place. Empty lines are skipped.
2. The decoder holds at most one line in memory, and the size of a line is limited.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, TypeAlias

from .._canonical.content import Blob, Json, Reasoning, RefusalText, Text
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, part_events
from .._canonical.response import ResponsePart, Usage
from .._util.sse import MAX_EVENT, SSE_FRAMES, FrameEnd
from ..errors import DialectError
from ._documents import encode_json
from ._failures import Failure

PartEvent: TypeAlias = PartStart | PartDelta | PartBlob | PartEnd


class StreamParser(ABC):
    """An incremental parser of one streamed answer. The events of a parser do not depend on where the bytes are split.

    A parser must keep at most one event of the stream in memory.
    """

    frame_end: ClassVar[FrameEnd] = SSE_FRAMES
    """The pattern of the end of a frame (one event of the stream). A relay always passes on whole frames. Default: the
    end of a server-sent event. A parser of a stream of lines sets `LINE_FRAMES`. If the pattern never matches, a
    relayed stream is sent in one piece when it has ended."""
    left_out: ClassVar[bytes] = b""
    """The bytes that end a stream of this dialect, and that some servers leave out. If `feed` has not returned
    `ResponseEnd` at the end of the stream, the server has left these bytes out, and a relay adds them."""

    usage: Usage | None = None
    """The token counts that the stream has contained so far. None if there were none, or if the parser does not keep
    them. This field is read if the server aborts the stream."""
    has_ended: bool = False
    """True if the stream has contained its end marker (`[DONE]`), even if the answer before it is incomplete."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """Parse the next bytes of the stream, and return the events that these bytes complete.

        Raises:
            DialectError: the data is invalid. The error names the path in the JSON of the event.
            UpstreamError: the data contains an error in place of a response.
        """

    def is_plain_content(self, data: bytes) -> bool:
        """Return True only if `data` certainly consists of whole events that continue the content.

        A relay passes such data on before it parses the data. So this check must be quick, and must return False if the
        result is uncertain. The check must return False for data that begins a call, or contains a finish reason, a
        terminal event or an error.
        """
        return False

    @property
    @abstractmethod
    def ending(self) -> bool:
        """True if the stop reason was received.

        After the stop reason, only usage and the terminal event may come. `feed` may not have returned `ResponseEnd`
        yet.
        """

    @abstractmethod
    def close(self) -> list[Event]:
        """Return the remaining events at the end of the stream.

        If `feed` has not returned `ResponseEnd`, `ResponseEnd` must be the last of these events.

        Raises:
            UpstreamTruncated: the stream ended without the terminal event.
        """


class StreamRenderer(ABC):
    """A renderer that converts the events of one streamed answer to the bytes of the HTTP body."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """Return the bytes that `event` adds to the body. The result is empty if the bytes depend on later events."""

    @abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """Return the bytes of the error that ends a broken stream. After the error, the connection is closed."""

    @abstractmethod
    def keepalive(self, response_id: str = "") -> bytes:
        """Return the bytes of a no-op, which is sent while the answer has no new event.

        The no-op is never an SSE comment, because some clients fail on a comment.

        An example is the event `ping` of Messages. `_server/delivery` lists the no-ops of all dialects, and the
        intervals at which they are sent.

        Args:
            response_id: the id of the answer. The id is used if the no-op is the first event that contains the id.
        """


class EventBuilder:
    """A builder of the events of parts (start, delta, end), for streams in which only one part is open at a time."""

    def __init__(self) -> None:
        self._next = 0
        self._open: tuple[int, ResponsePart] | None = None

    @property
    def open(self) -> ResponsePart | None:
        """The open part as it was when it began, without later deltas; None if no part is open."""
        return None if self._open is None else self._open[1]

    def text(self, empty: Text | RefusalText | Reasoning, text: str, events: list[Event]) -> None:
        """Append more text to the open part.

        If the open part is not of the same kind as `empty`, end the open part first, and begin a part that equals
        `empty`.
        """
        if text:
            events.append(PartDelta(self.index_of(empty, events), text))

    def blob(self, empty: ResponsePart, blob: Blob, events: list[Event]) -> None:
        """Append `blob` to the open part.

        If the open part is not of the same kind as `empty`, end the open part first, and begin a part that equals
        `empty`.
        """
        events.append(PartBlob(self.index_of(empty, events), blob))

    def whole(self, part: ResponsePart, events: list[Event]) -> None:
        """End the open part, and append all events of `part`, which is complete."""
        self.close(events)
        events += part_events(self.new_index(), part)

    def index_of(self, empty: ResponsePart, events: list[Event]) -> int:
        """Return the index of the open part.

        If the open part is not of the same kind as `empty`, end the open part first, and begin a part that equals
        `empty`.
        """
        if self._open is None or type(self._open[1]) is not type(empty):
            self.close(events)
            self._open = (self.new_index(), empty)
            events.append(PartStart(*self._open))
        return self._open[0]

    def new_index(self) -> int:
        """Return an unused index for a part whose events the caller creates."""
        self._next += 1
        return self._next - 1

    def close(self, events: list[Event]) -> None:
        """Append the end event of the open part to `events`, if a part is open."""
        if self._open is not None:
            events.append(PartEnd(self._open[0]))
            self._open = None


class PartSequence:
    """A buffer that puts the events of overlapping parts in sequence, in the order in which the parts started.

    Events of the first open part are returned immediately. Events of later parts are returned only when the first part
    has ended.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        """The index of the part whose events are returned immediately. If None, the next part that starts becomes this
        part."""
        self._held: dict[int, list[PartEvent]] = {}
        self._order: deque[int] = deque()
        """The indexes of the parts whose events are kept, in order. (A dict would be slow: finding its first key scans
        deleted keys.)"""

    def add(self, event: PartEvent) -> list[PartEvent]:
        """Add an event, and return the events that can be written now."""
        if self.current is None and isinstance(event, PartStart):
            self.current = event.index
        if event.index != self.current:
            if isinstance(event, PartStart):
                self._held[event.index] = [event]
                self._order.append(event.index)
            elif event.index in self._held:
                self._held[event.index].append(event)
            return []
        if not isinstance(event, PartEnd):
            return [event]
        self.current = None
        ready: list[PartEvent] = [event]
        while self._order and self.current is None:
            index = self._order.popleft()
            events = self._held.pop(index)
            if not isinstance(events[-1], PartEnd):
                self.current = index
            ready += events
        return ready


LINE_FRAMES = FrameEnd(
    pattern=re.compile(rb"\r\n|\n|\r(?=[^\n])"),  # a CR at the end may be half of a CR LF
    longest=1,
    last=re.compile(rb"\r\Z"),
)
"""The `StreamParser.frame_end` of a stream of lines."""


class LineDecoder:
    """A decoder that splits a stream of bytes into lines."""

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        self._max_line = max_line
        self._partial: list[
            bytes
        ] = []  # the pieces of the incomplete line; a list, because pieces may be tiny
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their line ends.

        Raises:
            DialectError: a line exceeds the maximum size.
        """
        lines: list[bytes] = []
        for piece in data.splitlines(keepends=True):
            self._partial.append(piece)
            self._size += len(piece)
            if self._size > self._max_line:
                raise DialectError(
                    f"a line of the stream is larger than the maximum of {self._max_line} bytes"
                )
            if piece.endswith((b"\n", b"\r")):
                lines += self.close()
        return lines

    def close(self) -> list[bytes]:
        """Return a list with the last line if this line has no line end; the line may be incomplete.

        If the last line has a line end, return an empty list.
        """
        line = b"".join(self._partial).strip()
        self._partial.clear()
        self._size = 0
        return [line] if line else []


def encode_line(document: Json) -> bytes:
    """Return the JSON of the document, followed by a line feed."""
    return encode_json(document) + b"\n"
