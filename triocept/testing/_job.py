"""One thing that another thread has asked of the loop, and waits for: as a thread, or as a task of another event loop,
asyncio's or a trio of the program's own.

Rules:

1. What a job has brought is taken by whoever waits, or given back (`on_lost`): a wait that is cut short by a Ctrl-C, or
   by a cancellation of asyncio's, loses nothing.
2. Who gives up cancels the work, and waits for its end no longer than it takes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar, final

import trio

T = TypeVar("T")


@final
class Job(Generic[T]):
    """What was asked, and what became of it.

    Args:
        on_lost: gets what came when nobody waited for it any more.
    """

    def __init__(self, on_lost: Callable[[T], None] | None = None) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        """Around the work, in the loop."""
        self.begun: bool = False
        """Whether the loop knows of it."""
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._abandoned = False

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or an error."""
        return self._done.is_set()

    def succeed(self, value: T) -> None:
        """It has brought this; called once, in the loop, or `fail`."""
        with self._lock:
            if self._done.is_set():
                return
            if not self._abandoned:
                self._values.append(value)
            lost, callbacks = self._abandoned, self._end()
        if lost and self._on_lost is not None:
            self._on_lost(value)
        _call_each(callbacks)

    def fail(self, error: BaseException) -> None:
        """It has failed."""
        with self._lock:
            if self._done.is_set():
                return
            self._error = error
            callbacks = self._end()
        _call_each(callbacks)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, in a thread that is not the loop's; whether it has ended. A Ctrl-C ends the wait."""
        return self._done.wait(timeout)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Have this called once it has ended, in whatever thread; at once if it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """As `when_done`, for as long as the block runs."""
        self.when_done(callback)
        try:
            yield
        finally:
            with self._lock, suppress(ValueError):
                self._callbacks.remove(callback)

    def take(self) -> T:
        """What it has brought.

        Raises:
            BaseException: what it failed with.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._values[0]  # it stays: the wait may still be cut short

    def abandon(self) -> None:
        """Nobody waits for it any more: what it has brought, or still brings, is given back."""
        with self._lock:
            self._abandoned = True
            lost, self._values = self._values, []
        for value in lost:
            if self._on_lost is not None:
                self._on_lost(value)

    def _end(self) -> list[Callable[[], None]]:
        self._done.set()
        callbacks, self._callbacks = self._callbacks, []
        return callbacks


def _call_each(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()


async def ended(job: Job[Any], seconds: float) -> bool:
    """Wait for the end of a job, for so many seconds; whether it has ended."""
    wait = _ended_in_trio if trio.lowlevel.in_trio_run() else _ended_in_asyncio
    await wait(job, seconds)
    return job.is_done


async def _ended_in_trio(job: Job[Any], seconds: float) -> None:
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    with job.calling(wake), trio.move_on_after(seconds):
        await event.wait()


async def _ended_in_asyncio(job: Job[Any], seconds: float) -> None:
    import asyncio  # which is running: others have no use for it, and it takes a while to load

    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(event.set)

    with job.calling(wake), suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def runs_asyncio() -> bool:
    """Whether asyncio runs in this very thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
