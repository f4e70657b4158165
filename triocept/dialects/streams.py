"""What reads and what writes one streamed response of a dialect: bytes on the one side, events on the other.

The parts of an answer are one after the other, as wires have them that know only one open part: `EventBuilder` is for
parsers, and makes the events of parts that follow one another; `PartSequence` is for renderers, and puts overlapping
parts in a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, TypeAlias

from .._canonical.content import Blob, Reasoning, RefusalText, Text
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, part_events
from .._canonical.response import ResponsePart
from .._util.sse import SSE_FRAMES, FrameEnd
from ._failures import Failure

PartEvent: TypeAlias = PartStart | PartDelta | PartBlob | PartEnd


class StreamParser(ABC):
    """Reads one streamed response, byte by byte if need be: any split of the bytes gives the same events.

    Its memory is bounded by one wire event.
    """

    frame_end: ClassVar[FrameEnd] = SSE_FRAMES
    """What ends a frame: bytes that a relay may send on, for they are whole. A stream that is not one of server-sent
    events says here what ends its own (`LINE_FRAMES`: a line); else no end is found in it, and a relayed stream comes
    in one piece, when it is over."""
    left_out: ClassVar[bytes] = b""
    """What ends a stream of this dialect, and what servers leave out all the same: the terminal fact stands before it.
    A relay gives it to the agent where `close` alone ended the answer."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.

        Raises:
            DialectError: the wire breaks its grammar; the path is that inside the wire event.
            UpstreamError: the wire holds an error in place of a response.
        """

    def is_plain_content(self, data: bytes) -> bool:
        """Whether these are, beyond doubt, whole events that say no more than what an answer under way says next.

        A look tells, and a doubt is a no: a relay sends them on before it has them read. No event that begins a call,
        that says why or that an answer ends passes, and no error.
        """
        return False

    @property
    @abstractmethod
    def ending(self) -> bool:
        """Whether the wire has said why the answer ends.

        What follows adds no content: usage perhaps, and the terminal event. `ResponseEnd` may be still to come.
        """

    @abstractmethod
    def close(self) -> list[Event]:
        """The wire has ended: the last events, among them `ResponseEnd` if it was not given yet.

        Raises:
            UpstreamTruncated: the terminal event never came.
        """


class StreamRenderer(ABC):
    """Writes one streamed response: the bytes of its body, events framed."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """What `event` adds to the body: perhaps nothing yet, where the wire needs more to be known first."""

    @abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """The in-band error that ends a stream which cannot go on; behind it is the end of the connection."""

    @abstractmethod
    def keepalive(self, response_id: str = "") -> bytes:
        """A no-op of the protocol, for a silence: never an SSE comment, which some clients choke on.

        Args:
            response_id: the id that the answer will have, where the no-op is the first to tell it.
        """


class EventBuilder:
    """Build the events of the parts of a streamed response, for a wire on which one part is open at a time."""

    def __init__(self) -> None:
        self._next = 0
        self._open: tuple[int, ResponsePart] | None = None

    @property
    def open(self) -> ResponsePart | None:
        """The part that may go on, as it began."""
        return None if self._open is None else self._open[1]

    def text(self, empty: Text | RefusalText | Reasoning, text: str, events: list[Event]) -> None:
        """More of a text; where the open part is of another kind, that ends, and `empty` begins."""
        if text:
            events.append(PartDelta(self.index_of(empty, events), text))

    def blob(self, empty: ResponsePart, blob: Blob, events: list[Event]) -> None:
        """An opaque piece of the open part, or of `empty`, as `text`."""
        events.append(PartBlob(self.index_of(empty, events), blob))

    def whole(self, part: ResponsePart, events: list[Event]) -> None:
        """A part that comes in one piece."""
        self.close(events)
        events += part_events(self.new_index(), part)

    def index_of(self, empty: ResponsePart, events: list[Event]) -> int:
        """The index of the open part of this kind; if another is open, it ends, and `empty` begins."""
        if self._open is None or type(self._open[1]) is not type(empty):
            self.close(events)
            self._open = (self.new_index(), empty)
            events.append(PartStart(*self._open))
        return self._open[0]

    def new_index(self) -> int:
        """An index that no part has yet: for a part whose events are made elsewhere."""
        self._next += 1
        return self._next - 1

    def close(self, events: list[Event]) -> None:
        """The open part, if there is one, is whole."""
        if self._open is not None:
            events.append(PartEnd(self._open[0]))
            self._open = None


class PartSequence:
    """Takes the events of parts as they come, gives them part by part, in the order of the parts' starts.

    The events of the first open part pass at once; those of later ones are held until it has ended.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        """The part whose turn it is; None: it is that of the next one to start."""
        self._held: dict[int, list[PartEvent]] = {}
        self._order: deque[int] = deque()
        """Of what is held. (The first key of a dict whose first keys were taken is searched for.)"""

    def add(self, event: PartEvent) -> list[PartEvent]:
        """The events whose turn has come."""
        if self.current is None and isinstance(event, PartStart):
            self.current = event.index
        if event.index != self.current:
            self._hold(event)
            return []
        if not isinstance(event, PartEnd):
            return [event]
        self.current = None
        return [event, *self._released()] if self._order else [event]

    def _hold(self, event: PartEvent) -> None:
        if isinstance(event, PartStart):
            self._held[event.index] = [event]
            self._order.append(event.index)
        elif event.index in self._held:
            self._held[event.index].append(event)

    def _released(self) -> list[PartEvent]:
        ready: list[PartEvent] = []
        while self._order and self.current is None:
            index = self._order.popleft()
            events = self._held.pop(index)
            if not isinstance(events[-1], PartEnd):
                self.current = index
            ready += events
        return ready
