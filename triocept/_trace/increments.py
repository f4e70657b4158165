"""Record the lengths and times of the pieces of a streamed answer.

They are recorded only with `record_increments=True`.
"""

from __future__ import annotations

import msgspec

from .._canonical.content import Opaque, ToolCall
from .._canonical.events import Event, PartDelta, PartStart


class Increments(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Lengths and times of the pieces of a streamed answer. The text of the pieces is in the parts of the answer."""

    runs: tuple[tuple[int, int], ...]
    """Groups of consecutive pieces that belong to one part, as (index of the part, number of pieces): `((0, 40), (1,
    3))`."""
    lengths: tuple[int, ...]
    """Number of characters of each piece (of a text, or of a tool call's arguments)."""
    waits: tuple[int, ...]
    """Milliseconds between the previous piece and each piece; for the first piece, between the start of the call and
    the piece."""


class IncrementLog:
    def __init__(self) -> None:
        self._runs: list[list[int]] = []
        self._lengths: list[int] = []
        self._times: list[int] = []

    def add(self, event: Event, seconds: float) -> None:
        """Add an increment that came `seconds` after the call was received."""
        match event:
            case PartDelta(index=index, text=text) if text:
                self._add(index, len(text), seconds)
            case PartStart(index=index, part=part) if not isinstance(part, Opaque):
                if begun := len(part.arguments if isinstance(part, ToolCall) else part.text):
                    self._add(index, begun, seconds)

    def increments(self) -> Increments | None:
        """Return the lengths and times of the pieces added so far; None if there was no piece with text."""
        if not self._lengths:
            return None
        waits = [after - before for before, after in zip([0, *self._times], self._times, strict=False)]
        runs = tuple((part, count) for part, count in self._runs)
        return Increments(runs=runs, lengths=tuple(self._lengths), waits=tuple(waits))

    def _add(self, index: int, length: int, seconds: float) -> None:
        if self._runs and self._runs[-1][0] == index:
            self._runs[-1][1] += 1
        else:
            self._runs.append([index, 1])
        self._lengths.append(length)
        self._times.append(round(seconds * 1000))
