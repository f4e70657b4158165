"""Ratios of interleaved pairs, with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median

import msgspec

LEVEL = 0.95
LEAST_PAIRS = 6
"""Fewest pairs that have an interval."""


class Ratio(msgspec.Struct, frozen=True):
    """The median of the pairs' ratios, and a 95 % interval of it."""

    median: float
    low: float
    high: float
    ours: float
    """Median of our figure."""
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the median of the ratios of pairs, and its interval between two of them (by the sign test)."""
    ratios = sorted(our / their for our, their in zip(ours, theirs, strict=True))
    low, high = interval_of(len(ratios))
    return Ratio(median(ratios), ratios[low], ratios[high], median(ours), len(ratios))


def interval_of(count: int) -> tuple[int, int]:
    """Return the places, in order of size, of the values between which the median is, with at least `LEVEL`.

    With fewer than six values there are none: then these are the smallest and the largest value.
    """
    low = 0
    while 2 * sum(comb(count, k) for k in range(low + 2)) / 2**count <= 1 - LEVEL:
        low += 1
    return low, count - 1 - low
