"""How much of a conversation stands where it stood last time.

An agent sends its whole conversation with every call, and changes little in it. Claude Code, for one, moves its cache
mark from the last message to the new last one, and writes what had the mark anew: all but the last one to three are as
they were. Both functions look at each item once, at the speed of C, and stop at the first difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import is_not, ne

__all__ = ["equal_head", "same_head"]


def equal_head(items: Sequence[object], old: Sequence[object]) -> int:
    """How many items at the head are equal to the old ones."""
    return next(compress(count(), map(ne, items, old)), min(len(items), len(old)))


def same_head(items: Sequence[object], old: Sequence[object]) -> int:
    """How many items at the head are the very same objects as the old ones."""
    return next(compress(count(), map(is_not, items, old)), min(len(items), len(old)))
