"""A recorded answer in its original pieces: events, each with its time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from .._canonical.content import Opaque, ToolCall
from .._canonical.events import Event, PartDelta, events_of, part_events
from .._canonical.response import Response, ResponsePart
from .._trace.increments import Increments
from .answer import Answer


class Piece(NamedTuple):
    """An increment and its time."""

    at: float
    """Seconds after the call."""
    event: Event


class _Part:
    """A part that is given piece by piece."""

    def __init__(self, index: int, part: ResponsePart, recorded: int) -> None:
        self._index = index
        self._text = text_of(part)
        self._recorded = recorded
        """Recorded number of characters: the text may be longer or shorter now, after a translation of directories."""
        self._came = self._given = 0
        self.begin, *rest = part_events(index, part)
        self.rest = [event for event in rest if not isinstance(event, PartDelta)]

    @property
    def over(self) -> bool:
        return self._came >= self._recorded

    def take(self, length: int) -> Event:
        """Return the next piece, which had `length` characters when it was recorded."""
        self._came += length
        until = round(self._came * len(self._text) / self._recorded)
        piece, self._given = self._text[self._given : until], until
        return PartDelta(self._index, piece)


def pieces_of(answer: Answer) -> Iterator[Piece]:
    """Yield an answer in its recorded pieces; if they were not recorded: its beginning, and the rest at its end."""
    response = answer.response
    assert response is not None
    start, *rest = events_of(response)
    if answer.increments is None:
        yield Piece(answer.duration if answer.first_event is None else answer.first_event, start)
        yield from (Piece(answer.duration, event) for event in rest)
        return
    first = answer.increments.waits[0] / 1000
    yield Piece(first if answer.first_event is None else answer.first_event, start)
    yield from _kept_pieces(response, answer.increments)
    yield Piece(answer.duration, rest[-1])


def _kept_pieces(response: Response, increments: Increments) -> Iterator[Piece]:
    """Yield the pieces of all parts."""
    parts, lengths = response.content, _lengths(increments)
    begun: dict[int, _Part] = {}
    at, next_part = 0.0, 0
    for index, length, at in _cuts(increments):
        while next_part <= min(
            index, len(parts) - 1
        ):  # in the order of the parts, whichever part has the first piece
            part = parts[next_part]
            if next_part in lengths:
                begun[next_part] = _Part(next_part, part, lengths[next_part])
                yield Piece(at, begun[next_part].begin)
            else:
                yield from _whole_part(at, next_part, part)
            next_part += 1
        if index in begun:
            yield Piece(at, begun[index].take(length))
            if begun[index].over:
                yield from (Piece(at, event) for event in begun[index].rest)
    for index in range(next_part, len(parts)):
        yield from _whole_part(at, index, parts[index])


def _whole_part(at: float, index: int, part: ResponsePart) -> Iterator[Piece]:
    yield from (Piece(at, event) for event in part_events(index, part))


def _cuts(increments: Increments) -> Iterator[tuple[int, int, float]]:
    """Yield part, length and seconds after the call of each piece."""
    parts = [part for part, count in increments.runs for _ in range(count)]
    times = accumulate(increments.waits)
    for part, length, time in zip(parts, increments.lengths, times, strict=False):
        yield part, length, time / 1000


def _lengths(increments: Increments) -> dict[int, int]:
    """Return the number of characters of each part; empty parts are not included."""
    found: dict[int, int] = {}
    for index, length, _ in _cuts(increments):
        if length > 0:
            found[index] = found.get(index, 0) + length
    return found


def text_of(part: ResponsePart) -> str:
    """Return the text of a part that comes in pieces."""
    if isinstance(part, Opaque):
        return ""
    return part.arguments if isinstance(part, ToolCall) else part.text
