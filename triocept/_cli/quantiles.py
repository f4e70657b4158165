"""Percentiles of any number of times, in memory that does not grow with them.

A time is counted in a class of its size; the classes grow by one percent each, so a percentile is true to one percent.
"""

from __future__ import annotations

from collections import Counter
from math import exp, log

__all__ = ["Quantiles"]

_STEP = log(1.01)
_LEAST = 1e-6
"""Seconds; what took less is counted as this."""


class Quantiles:
    """Times, of which percentiles are asked."""

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._classes: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.max = max(self.max, seconds)
        self._classes[round(log(max(seconds, _LEAST)) / _STEP)] += 1

    def percentile(self, percent: float) -> float:
        """The least time that so many percent of all do not exceed.

        Raises:
            ValueError: there are none.
        """
        if not self.count:
            raise ValueError("no times")
        wanted, seen = percent / 100 * self.count, 0
        for number, count in sorted(self._classes.items()):
            seen += count
            if seen >= wanted:
                return min(exp(number * _STEP), self.max)
        return self.max
