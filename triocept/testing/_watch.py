"""Who blocks the loop, and for how long: looked at from a thread of its own, for one that is blocked can say nothing.

A block that lasts is the matter of whoever waits (`Loop.wait`); one that ends is told afterwards, in a warning.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import final

import msgspec
import trio

__all__ = ["Watch", "place_of"]

LONG = 1.0
"""Seconds for which nothing else is answered, and nobody wonders: asyncio's debug mode warns of a tenth of that."""
EVERY = 0.25
"""Seconds between two looks."""
_OURS = (str(Path(__file__).parents[1]), str(Path(trio.__file__).parent))


class Place(msgspec.Struct, frozen=True):
    """Where a thread was."""

    function: str
    file: str
    line: int


@final
class Watch(trio.abc.Instrument):
    """Sees for how long the loop runs without a look at what has come.

    Args:
        thread: that of the loop.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self._busy_since: float | None = None
        self._told_since: float | None = None
        """Of a block that somebody was told of while it lasted, when it began."""
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="triocept-watch", daemon=True)
        self._seen: Place | None = None
        """Who blocks it now."""
        self._found: list[tuple[Place, float]] = []

    def start(self) -> None:
        """Begin to look."""
        self._looking.start()

    def stop(self) -> None:
        """End that."""
        self._ended.set()
        if self._looking.ident is not None:
            self._looking.join(LONG)

    def note_told(self) -> None:
        """Whoever blocks it now is an error of somebody's already."""
        self._told_since = self._busy_since

    def warn(self) -> None:
        """Tell what was seen, once.

        Raises:
            RuntimeWarning: where warnings are errors.
        """
        __tracebackhide__ = True
        found, self._found = self._found, []
        for place, seconds in found:
            text = (
                f"{place.function} blocked triocept's endpoint for {seconds:.1f} s, and nobody else was answered: a "
                "handler that blocks is a plain function, not an async one; it runs in a thread of its own then"
            )
            warnings.warn_explicit(text, RuntimeWarning, place.file, place.line)

    # As an instrument, in the loop

    def after_io_wait(self, timeout: float) -> None:
        self._busy_since = time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        if self._seen is not None and self._busy_since is not None:
            seen, seconds, self._seen = self._seen, time.monotonic() - self._busy_since, None
            if seconds > LONG and self._told_since != self._busy_since:  # else it was seen as it ended
                self._found.append((seen, seconds))
        self._busy_since = None

    # In its own thread

    def _look(self) -> None:
        while not self._ended.wait(EVERY) and self._thread.is_alive():
            since = self._busy_since
            if since is not None and self._seen is None and time.monotonic() - since > LONG:
                place = _user_place(self._thread)
                if since == self._busy_since:
                    self._seen = place


def place_of(thread: threading.Thread) -> str:
    """The function in which a thread is, with file and line: the innermost that is the user's, else the innermost."""
    frame = sys._current_frames().get(thread.ident or -1)
    if frame is None:
        return "a thread that has ended"
    place = _place(_first_of_user(frame) or frame)
    return f"{place.function} ({place.file}:{place.line})"


def _user_place(thread: threading.Thread) -> Place | None:
    """The function of the user's in which a thread is; None: it is in none."""
    found = _first_of_user(sys._current_frames().get(thread.ident or -1))
    return _place(found) if found is not None else None


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _first_of_user(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is neither ours nor a library's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name == "<string>":  # made in a library (a dataclass's method), or all that the program is
            name = str(frame.f_globals.get("__file__", name))
        if not name.startswith(_OURS) and not _is_library(name):
            return frame
        frame = frame.f_back
    return None


def _is_library(filename: str) -> bool:
    return (
        "site-packages" in filename
        or filename.startswith("<frozen")
        or Path(filename).is_relative_to(Path(threading.__file__).parent)
    )
