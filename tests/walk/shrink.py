"""The shortest part of a history that still fails: delta debugging (Zeller and Hildebrandt's ddmin) over its steps.

A walk is not a pure function of its history: the kernel has a say. So a part counts as failing if one of a few plays
fails, and the search has an end in time.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from .history import Steps

H = TypeVar("H", bound=Steps[Any])


def shrunk(history: H, fails: Callable[[H], bool], *, seconds: float = 120.0) -> H:
    """Return the shortest part of the history that was found to fail within the seconds."""
    until = time.monotonic() + seconds
    kept = list(history.kept if history.kept is not None else range(len(history.steps)))
    pieces = 2
    while len(kept) > 1 and time.monotonic() < until:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if time.monotonic() > until:
                break
            if rest and fails(history.only(tuple(rest))):
                kept, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(kept), pieces * 2)
    return history.only(tuple(kept))
