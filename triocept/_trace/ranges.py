"""The messages of intents that are read from a file: each call costs only the new messages of its conversation.

An intent names its messages as half-open ranges of numbers, and most intents continue a recent conversation. So the
latest conversations are kept with the values made of their messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .._canonical.memory import common_head
from .lines import Ranges

T = TypeVar("T")

_KEPT = 16
"""Maximum conversations kept: more than any agent runs at once."""
_CHANGED = 4
"""Messages at the end that an agent may rewrite while it continues a conversation."""


class RangedConversation(Generic[T]):
    """The messages of a call, and of the calls that continue it. It may grow, and does not change otherwise."""

    def __init__(self, ranges: Ranges, ends: list[int], values: list[T]) -> None:
        self.ranges = ranges
        self.ends = ends
        """Number of messages up to the end of each range."""
        self.values = values
        """Value made of each message."""
        self._whole: tuple[T, ...] = ()

    def head(self, count: int) -> tuple[T, ...]:
        """Return the first values. No intermediate list is made: it would double the memory of each call."""
        if len(self._whole) < count:
            self._whole = tuple(self.values)
        return self._whole[:count]


class RecentRanges(Generic[T]):
    """The latest conversations, and the values made of their messages.

    Args:
        make: makes the value of one more message, given the values before it and its number. It raises KeyError where
            there is no message of this number.
    """

    def __init__(self, make: Callable[[list[T], int], T]) -> None:
        self._make = make
        self._kept: list[RangedConversation[T]] = []
        """Conversations, the latest first."""

    def go_on(self, ranges: Ranges) -> RangedConversation[T]:
        """Return the conversation of these messages.

        Raises:
            KeyError: a message of these numbers is missing. The messages before it are kept: a damaged range may be of
                any length.
        """
        known, same, head = self._best(ranges)
        if head >= len(known.values) - _CHANGED:  # else it leaves a conversation that may continue
            self._kept = [each for each in self._kept if each is not known]
        if head < len(known.values):
            known = RangedConversation(known.ranges[:same], known.ends[:same], known.values[:head])
        else:
            del known.ranges[same:], known.ends[same:]
        self._kept = [known, *self._kept[: _KEPT - 1]]
        for start, stop in ranges[same:]:
            before = known.ends[-1] if known.ends else 0
            try:
                for number in range(start + len(known.values) - before, stop):
                    known.values.append(self._make(known.values, number))
            finally:
                known.ends.append(len(known.values))
                known.ranges.append((start, start + len(known.values) - before))
        return known

    def _best(self, ranges: Ranges) -> tuple[RangedConversation[T], int, int]:
        """Return the conversation with the longest common beginning, and the numbers of equal ranges and messages."""
        best, same, most = RangedConversation[T]([], [], []), 0, 0
        for known in self._kept:
            whole = common_head(ranges, known.ranges)
            head = known.ends[whole - 1] if whole else 0
            if whole < min(len(ranges), len(known.ranges)):
                (start, stop), (other, end) = ranges[whole], known.ranges[whole]
                head += max(0, min(stop, end) - start) if start == other else 0
            if head > most:
                best, same, most = known, whole, head
        return best, same, most
