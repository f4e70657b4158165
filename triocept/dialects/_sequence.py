"""Overlapping parts, one after the other: for wires that know only one open part."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from .._canonical.events import PartBlob, PartDelta, PartEnd, PartStart

__all__ = ["PartEvent", "PartSequence"]

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
