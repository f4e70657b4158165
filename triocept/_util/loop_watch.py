"""Detect functions that block the event loop.

The detection runs in a thread, because a blocked loop cannot report anything.

An endpoint logs each place in the code that blocks the event loop, while the loop is blocked (`logged_blocks`).
`triocept.testing` warns of such a place after the block has ended.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import trio

LONG = 1.0
"""Seconds for which a function may block the loop without a report. (asyncio's debug mode warns after 0.1 s.)"""
EVERY = 0.25
"""Seconds between two inspections of the stack of the loop's thread."""
MOST_PLACES = 100
"""Maximum places in the code that an endpoint logs."""
_TRIO = str(Path(trio.__file__).parent) + os.sep
_LIBRARIES = (str(Path(__file__).parents[1]) + os.sep, _TRIO, str(Path(threading.__file__).parent) + os.sep)

log = logging.getLogger("triocept.endpoint")


class Place(msgspec.Struct, frozen=True):
    """A line of code that a thread is executing."""

    function: str
    file: str
    line: int


@dataclass(slots=True, eq=False)
class _Heartbeat:
    """The record of one callback that the detector has scheduled in trio's loop.

    While the loop is blocked, the callback does not run.
    """

    since: float
    place: Place | None = None
    """The place in the code that blocks the loop, and so delays this heartbeat. None until this place was found."""
    reported: bool = False
    """True if some caller has already got an error about this block of the loop."""


class LoopWatch:
    """A detector of functions that block the loop, so that no other task runs.

    The detector does not slow down other functions.

    The detector's thread inspects the stack of the loop every `EVERY` seconds. If a user function is on the stack, the
    thread schedules a callback in the loop, the heartbeat. While the loop waits for I/O, it runs no user function, so
    the detector does not wake it, and a mock clock still jumps.

    Args:
        thread: thread of the loop.
        soon: function that schedules a callback in the loop, like `TrioToken.run_sync_soon`. The function raises
            RuntimeError if no loop runs.
    """

    def __init__(self, thread: threading.Thread, soon: Callable[[Callable[[], object]], object]) -> None:
        self._thread = thread
        self._soon = soon
        self._heartbeat: _Heartbeat | None = None
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="triocept-watch", daemon=True)

    def start(self) -> None:
        self._looking.start()

    def stop(self) -> None:
        self._ended.set()
        if self._looking.ident is not None:
            self._looking.join(LONG)

    def found(self, place: Place) -> None:
        """Handle a call that has been blocking the loop for more than `LONG` seconds.

        Subclasses override this method.

        The detector's thread calls `found` once for each blocking call.
        """

    def over(self, place: Place, seconds: float) -> None:
        """Handle the end of the blocking call for which `found` was called. `over` runs in the loop's thread.

        `over` is not called if a caller already got an error about the block.

        Args:
            place: the place that blocked the loop.
            seconds: seconds since the first inspection that found a user function. The block may have begun up to
                `EVERY` seconds earlier.
        """

    def note_reported(self) -> None:
        if (heartbeat := self._heartbeat) is not None:
            heartbeat.reported = True

    def _look(self) -> None:
        """Call `found` if a heartbeat is late, both by the seconds and by the number of inspections since its start.

        Seconds alone do not suffice, because a process may be suspended, or get no time on a loaded machine.
        """
        looks = 0
        while not self._ended.wait(EVERY) and self._thread.is_alive():
            user = _first_of_user(sys._current_frames().get(self._thread.ident or -1))
            heartbeat = self._heartbeat
            if heartbeat is None:
                if user is None:
                    continue
                looks, heartbeat = 0, _Heartbeat(time.monotonic())
                self._heartbeat = heartbeat
                try:
                    self._soon(partial(self._beat, heartbeat))
                except RuntimeError:  # the loop has not begun, or has ended
                    self._heartbeat = None
                    continue
            looks += 1
            late = looks >= LONG / EVERY and time.monotonic() - heartbeat.since > LONG
            if late and user is not None and heartbeat.place is None and heartbeat is self._heartbeat:
                heartbeat.place = _place(user)
                self.found(heartbeat.place)

    def _beat(self, heartbeat: _Heartbeat) -> None:
        self._heartbeat = None
        if heartbeat.place is not None and not heartbeat.reported:
            self.over(heartbeat.place, time.monotonic() - heartbeat.since)


class _LoggingWatch(LoopWatch):
    """A detector that logs each blocking place in the code once, and at most `MOST_PLACES` places."""

    def __init__(self) -> None:
        super().__init__(threading.current_thread(), trio.lowlevel.current_trio_token().run_sync_soon)
        self.users = 0
        """Number of open endpoints in the loop that use this detector."""
        self._places: set[Place] = set()

    def found(self, place: Place) -> None:
        if place not in self._places and len(self._places) < MOST_PLACES:
            self._places.add(place)
            log.warning(
                "%s (%s:%d) has blocked the event loop for %g s, and no agent gets an answer meanwhile: await an "
                "async function, or run the blocking code in a thread (`await trio.to_thread.run_sync(…)`)",
                place.function,
                place.file,
                place.line,
                LONG,
            )


_watch: trio.lowlevel.RunVar[_LoggingWatch | None] = trio.lowlevel.RunVar("triocept_watch", default=None)


@contextmanager
def logged_blocks() -> Iterator[None]:
    """During the `with` block, log functions that block the event loop. All endpoints of a loop share one detector."""
    watch = _watch.get()
    if watch is None:
        watch = _LoggingWatch()
        watch.start()
        _watch.set(watch)
    watch.users += 1
    try:
        yield
    finally:
        watch.users -= 1
        if not watch.users:
            _watch.set(None)
            watch.stop()


def place_of(thread: threading.Thread) -> str:
    """Return the place in user code that `thread` executes, as `FUNCTION (FILE:LINE)`.

    If the thread executes no user code, return the innermost function that it executes.
    """
    frame = sys._current_frames().get(thread.ident or -1)
    if frame is None:
        return "a thread that has ended"
    place = _place(_first_of_user(frame) or frame)
    return f"{place.function} ({place.file}:{place.line})"


def waiting_place(task: trio.lowlevel.Task) -> str:
    """Return the innermost function of user code in which `task` waits, with its file and line.

    If the task waits in no user code, return an empty text.
    """
    places = [
        f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})"
        for frame, line in task.iter_await_frames()
        if not _is_library(frame)
    ]
    return places[-1] if places else ""


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _first_of_user(frame: FrameType | None) -> FrameType | None:
    """Return the first frame of user code, from `frame` through its callers; None if no frame is user code.

    User code is code outside triocept and the installed libraries that was not generated.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "unrolled_run" and code.co_filename.startswith(_TRIO):
            return None  # outside: the caller of trio.run
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
    # No `Path` here: it imports a module on first use, and another thread may be in the middle of that import.
    return name.startswith(_LIBRARIES) or "site-packages" in name
