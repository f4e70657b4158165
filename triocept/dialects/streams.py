"""Parser and renderer of one streamed response of a dialect: they convert between bytes and events.

Many wires have only one open part at a time. `EventBuilder` helps parsers: it makes the events of parts that follow one
another. `PartSequence` helps renderers: it puts overlapping parts in sequence.

Streams of JSON documents, one per line (NDJSON): bytes to lines:

1. A line ends with LF, CR or CR LF, wherever the bytes are split: a JSON document on one line contains no line end.
   Empty lines are skipped.
2. Memory is bounded by one line, whose size is limited.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, TypeAlias

from .._canonical.content import Blob, Json, Reasoning, RefusalText, Text
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, part_events
from .._canonical.response import ResponsePart
from .._util.sse import MAX_EVENT, SSE_FRAMES, FrameEnd
from ..errors import DialectError
from ._documents import encode_json
from ._failures import Failure

PartEvent: TypeAlias = PartStart | PartDelta | PartBlob | PartEnd


class StreamParser(ABC):
    """A parser of one streamed response, incremental: any split of the bytes gives the same events.

    Its memory is bounded by one wire event.
    """

    frame_end: ClassVar[FrameEnd] = SSE_FRAMES
    """The end of a frame, up to which a relay may pass bytes on. Default: the end of a server-sent event; a stream of
    lines sets `LINE_FRAMES`. If no end is ever found, a relayed stream is sent in one piece, after its end."""
    left_out: ClassVar[bytes] = b""
    """The bytes that end a stream of this dialect, but that servers may leave out after the terminal fact. A relay
    adds them if `close` alone ended the answer."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes.

        Raises:
            DialectError: the data breaks the grammar; the error has the path in the wire event.
            UpstreamError: the data holds an error in place of a response.
        """

    def is_plain_content(self, data: bytes) -> bool:
        """Return True if the data is certainly whole events that only continue the content of the current answer.

        The check is quick, and False when in doubt: a relay passes such data on before it is parsed. Data that begins
        a call, that contains a finish reason or a terminal event, or that contains an error must give False.
        """
        return False

    @property
    @abstractmethod
    def ending(self) -> bool:
        """True if the reason for the end of the answer has come.

        Only usage and the terminal event may follow, no content. `ResponseEnd` may still be to come.
        """

    @abstractmethod
    def close(self) -> list[Event]:
        """Return the last events after the end of the bytes, with `ResponseEnd` unless it was returned before.

        Raises:
            UpstreamTruncated: the terminal event never came.
        """


class StreamRenderer(ABC):
    """A renderer of one streamed response: it writes the bytes of the body, with events framed."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """Return the bytes that `event` adds to the body; perhaps none yet, if the wire needs more facts first."""

    @abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """Return the in-band error that ends a broken stream; the connection is closed after it."""

    @abstractmethod
    def keepalive(self, response_id: str = "") -> bytes:
        """Return a no-op of the protocol, sent during a silence: never an SSE comment, which some clients fail on.

        For example, the event `ping` of Messages. `_server/delivery` lists the no-ops of all dialects, and their times.

        Args:
            response_id: the id of the answer, in case the no-op is the first event that contains it.
        """


class EventBuilder:
    """A builder of the events of a streamed response's parts, for a wire with one open part at a time."""

    def __init__(self) -> None:
        self._next = 0
        self._open: tuple[int, ResponsePart] | None = None

    @property
    def open(self) -> ResponsePart | None:
        """The open part, as it began."""
        return None if self._open is None else self._open[1]

    def text(self, empty: Text | RefusalText | Reasoning, text: str, events: list[Event]) -> None:
        """Append more of a text; if the open part is of another kind, end that part and begin `empty`."""
        if text:
            events.append(PartDelta(self.index_of(empty, events), text))

    def blob(self, empty: ResponsePart, blob: Blob, events: list[Event]) -> None:
        """Append an opaque piece of the open part, or of a new part `empty`, as `text` does."""
        events.append(PartBlob(self.index_of(empty, events), blob))

    def whole(self, part: ResponsePart, events: list[Event]) -> None:
        """Append a part that comes in one piece."""
        self.close(events)
        events += part_events(self.new_index(), part)

    def index_of(self, empty: ResponsePart, events: list[Event]) -> int:
        """Return the index of the open part of this kind; otherwise end the open part, and begin `empty`."""
        if self._open is None or type(self._open[1]) is not type(empty):
            self.close(events)
            self._open = (self.new_index(), empty)
            events.append(PartStart(*self._open))
        return self._open[0]

    def new_index(self) -> int:
        """Return an unused index for a part whose events are made elsewhere."""
        self._next += 1
        return self._next - 1

    def close(self, events: list[Event]) -> None:
        """End the open part, if there is one."""
        if self._open is not None:
            events.append(PartEnd(self._open[0]))
            self._open = None


class PartSequence:
    """A buffer that puts the events of overlapping parts in sequence, in the order of the parts' starts.

    The events of the first open part pass at once; events of later parts are held until it has ended.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        """The index of the part whose events pass; if None, the next part to start takes this place."""
        self._held: dict[int, list[PartEvent]] = {}
        self._order: deque[int] = deque()
        """The indexes of held parts. (A dict alone is slow: finding its first key scans the deleted ones.)"""

    def add(self, event: PartEvent) -> list[PartEvent]:
        """Return the events that may pass now."""
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
