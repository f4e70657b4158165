"""Warnings of functions that have blocked the loop; a lasting block is an error of the waiting caller (`Loop.wait`)."""

from __future__ import annotations

import threading
import warnings
from typing import final

from .._util.loop_watch import Place, TimedWatch


@final
class Watch(TimedWatch):
    """Watch that collects the blocks of the loop's thread, and warns of them."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(thread)
        self._reported_since: float | None = None
        """Start time of a block that was reported while it lasted."""
        self._found: list[tuple[Place, float]] = []

    def note_reported(self) -> None:
        """Record that a caller already got an error for the current block."""
        self._reported_since = self._busy_since

    def warn(self) -> None:
        """Warn of each recorded block, once; a RuntimeWarning is raised if warnings are errors."""
        __tracebackhide__ = True
        found, self._found = self._found, []
        for place, seconds in found:
            text = (
                f"{place.function} blocked triocept's endpoint for {seconds:.1f} s, and no other call was answered: "
                "make a handler that blocks a plain function (`def`), which runs in its own thread"
            )
            warnings.warn_explicit(text, RuntimeWarning, place.file, place.line)

    def over(self, place: Place, seconds: float) -> None:
        if self._reported_since != self._busy_since:  # else a caller got an error
            self._found.append((place, seconds))
