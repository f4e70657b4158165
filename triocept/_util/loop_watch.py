"""Watch for functions that block the event loop, in a thread of its own: a blocked loop cannot report anything.

An endpoint logs each place that blocks its loop, while it blocks (`logged_blocks`). `triocept.testing` warns of it
afterwards.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec
import trio

LONG = 1.0
"""Maximum seconds of a block without a report; asyncio's debug mode warns after a tenth of that."""
EVERY = 0.25
"""Seconds between two checks."""
MOST_PLACES = 100
"""Maximum places that an endpoint logs."""
_TRIO = str(Path(trio.__file__).parent)
_OURS = (str(Path(__file__).parents[1]), _TRIO)

log = logging.getLogger("triocept.endpoint")


class Place(msgspec.Struct, frozen=True):
    """Location of a thread."""

    function: str
    file: str
    line: int


class LoopWatch(trio.abc.Instrument):
    """Instrument that finds the functions which keep the loop from checking for new I/O.

    Args:
        thread: thread of the loop.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self._cycle = 0
        """Number of checks for new I/O."""
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="triocept-watch", daemon=True)

    def start(self) -> None:
        """Start the watch."""
        self._looking.start()

    def stop(self) -> None:
        """Stop the watch."""
        self._ended.set()
        if self._looking.ident is not None:
            self._looking.join(LONG)

    def found(self, place: Place) -> None:
        """Handle a block that lasts, once. Called in the watch's thread."""

    def after_io_wait(self, timeout: float) -> None:
        """Count a cycle of the loop. Called in the loop, and cheap: some cycles belong to each call."""
        self._cycle += 1

    def _look(self) -> None:
        """Report the location that blocks the loop, once enough checks have found the loop blocked.

        A process that was suspended for a while, on a loaded machine, has had too few checks. A loop that waits for I/O
        has no user function on its stack.
        """
        looks, before, since, reported = 0, -1, 0.0, -1
        while not self._ended.wait(EVERY) and self._thread.is_alive():
            cycle = self._cycle
            if cycle != before:
                looks, before, since = 0, cycle, time.monotonic()
            looks += 1
            if cycle != reported and looks >= LONG / EVERY and time.monotonic() - since > LONG:
                user = _first_of_user(sys._current_frames().get(self._thread.ident or -1))
                if cycle == self._cycle and user is not None:
                    reported = cycle
                    self.found(_place(user))


class TimedWatch(LoopWatch):
    """A watch that measures how long each block has lasted."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(thread)
        self._busy_since: float | None = None
        self._seen: Place | None = None
        """Location that blocks the loop now."""

    def found(self, place: Place) -> None:
        self._seen = place

    def over(self, place: Place, seconds: float) -> None:
        """Handle a block that has ended. Called in the loop."""

    def after_io_wait(self, timeout: float) -> None:
        super().after_io_wait(timeout)
        self._busy_since = time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        if self._seen is not None and self._busy_since is not None:
            seen, seconds, self._seen = self._seen, time.monotonic() - self._busy_since, None
            if seconds > LONG:
                self.over(seen, seconds)
        self._busy_since = None


class _LoggingWatch(LoopWatch):
    """A watch that logs each place once."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(thread)
        self.users = 0
        """Number of endpoints in the loop."""
        self._places: set[Place] = set()

    def found(self, place: Place) -> None:
        if place not in self._places and len(self._places) < MOST_PLACES:
            self._places.add(place)
            log.warning(
                "%s (%s:%d) has blocked the event loop for %g s, and no agent is answered meanwhile: await an async "
                "function there, or run it in a thread (`await trio.to_thread.run_sync(…)`)",
                place.function,
                place.file,
                place.line,
                LONG,
            )


_watch: trio.lowlevel.RunVar[_LoggingWatch | None] = trio.lowlevel.RunVar("triocept_watch", default=None)


@contextmanager
def logged_blocks() -> Iterator[None]:
    """Log each place that blocks the event loop while the block runs. Several endpoints in a loop share one watch."""
    watch = _watch.get()
    if watch is None:
        watch = _LoggingWatch(threading.current_thread())
        trio.lowlevel.add_instrument(watch)
        watch.start()
        _watch.set(watch)
    watch.users += 1
    try:
        yield
    finally:
        watch.users -= 1
        if not watch.users:
            _watch.set(None)
            trio.lowlevel.remove_instrument(watch)
            watch.stop()


def place_of(thread: threading.Thread) -> str:
    """Return the function that a thread runs, with file and line: the innermost user function, else the innermost."""
    frame = sys._current_frames().get(thread.ident or -1)
    if frame is None:
        return "a thread that has ended"
    place = _place(_first_of_user(frame) or frame)
    return f"{place.function} ({place.file}:{place.line})"


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _first_of_user(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the loop's tasks that is neither ours, nor a library's, nor generated by one."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "unrolled_run" and code.co_filename.startswith(
            _TRIO
        ):  # outside: the caller of trio.run
            return None
        if not _is_library(frame):
            return frame
        frame = frame.f_back
    return None


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    if name.startswith("<"):  # generated (a method of a dataclass, of attrs), or a program without a file
        if "__file__" not in frame.f_globals:
            return frame.f_globals.get("__name__") != "__main__"
        name = str(frame.f_globals["__file__"])
    return (
        name.startswith(_OURS)
        or "site-packages" in name
        or Path(name).is_relative_to(Path(threading.__file__).parent)
    )
