"""Warn about functions that have blocked the endpoint's loop for a while."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import final

from .._util.loop_watch import LoopWatch, Place


@final
class Watch(LoopWatch):
    """Records the functions that have blocked the endpoint's loop, and warns about these functions."""

    def __init__(self, thread: threading.Thread, soon: Callable[[Callable[[], object]], object]) -> None:
        super().__init__(thread, soon)
        self._found: list[tuple[Place, float]] = []

    def warn(self) -> None:
        """Warn once about each function that has blocked the loop. If warnings are errors, raise RuntimeWarning."""
        __tracebackhide__ = True
        found, self._found = self._found, []
        for place, seconds in found:
            text = (
                f"{place.function} blocked triocept's endpoint for {seconds:.1f} s, and no other call was answered: "
                "make a handler that blocks a plain function (`def`), which runs in its own thread"
            )
            warnings.warn_explicit(text, RuntimeWarning, place.file, place.line)

    def over(self, place: Place, seconds: float) -> None:
        self._found.append((place, seconds))
