"""The parts of a streamed answer, one after the other, as wires have them that know only one open part.

`Increments` is for parsers: it makes the events of parts that follow one another. `PartSequence` is for renderers: it
puts overlapping parts in a row.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from .._canonical.content import Blob, Reasoning, RefusalText, Text
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, part_events
from .._canonical.response import ResponsePart

__all__ = ["Increments", "PartEvent", "PartSequence"]


class Increments:
    """Takes what a wire says, appends the events of it."""

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


PartEvent: TypeAlias = PartStart | PartDelta | PartBlob | PartEnd


class PartSequence:
    """Takes the events of parts as they come, gives them part by part, in the order of the parts' starts.

    The events of the first open part pass at once; those of later ones are held until it has ended.
    """

    def __init__(self) -> None:
        self._current: int | None = None
        self._held: dict[int, list[PartEvent]] = {}
        self._order: deque[int] = deque()
        """Of what is held. (The first key of a dict whose first keys were taken is searched for.)"""

    def add(self, event: PartEvent) -> list[PartEvent]:
        """The events whose turn has come."""
        if self._current is None and isinstance(event, PartStart):
            self._current = event.index
        if event.index != self._current:
            self._hold(event)
            return []
        if not isinstance(event, PartEnd):
            return [event]
        self._current = None
        return [event, *self._released()]

    def _hold(self, event: PartEvent) -> None:
        if isinstance(event, PartStart):
            self._held[event.index] = [event]
            self._order.append(event.index)
        elif event.index in self._held:
            self._held[event.index].append(event)

    def _released(self) -> list[PartEvent]:
        ready: list[PartEvent] = []
        while self._order and self._current is None:
            index = self._order.popleft()
            events = self._held.pop(index)
            if not isinstance(events[-1], PartEnd):
                self._current = index
            ready += events
        return ready
