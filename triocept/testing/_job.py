"""Call a function in the endpoint's trio loop from another thread.

The caller waits for the result. The caller is a thread, or a task of another event loop (asyncio, or the program's own
trio).

Rules:

1. No result is lost: if a Ctrl-C or a cancellation in asyncio ends the caller's wait, the job passes the result to
   `on_lost`.
2. If a Ctrl-C or a cancellation ends the caller's wait, the called function is cancelled. The caller then waits only
   until the function has ended.
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
    """A call into the loop, and its result. If the caller has stopped waiting, `on_lost` is called with the result."""

    def __init__(self, on_lost: Callable[[T], None] | None = None) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        """Cancel scope around the called function, which runs in the loop."""
        self.begun: bool = False
        """True if the job was passed to the loop."""
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._abandoned = False

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def succeed(self, value: T) -> None:
        """Set the result of the job. The task that runs the job must call either this method or `fail`, once."""
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
        with self._lock:
            if self._done.is_set():
                return
            self._error = error
            callbacks = self._end()
        _call_each(callbacks)

    def wait(self, timeout: float | None = None) -> bool:
        return self._done.wait(timeout)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback`, in any thread, when the job ends.

        If the job has already ended, call `callback` immediately.
        """
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` when the job ends, unless the `with` block has ended before."""
        self.when_done(callback)
        try:
            yield
        finally:
            with self._lock, suppress(ValueError):
                self._callbacks.remove(callback)

    def take(self) -> T:
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._values[0]  # not removed: after an interrupt, `abandon` passes it to `on_lost`

    def abandon(self) -> None:
        """Stop waiting for the job. If the job has a result, or gets a result later, pass the result to `on_lost`."""
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
    """Wait in asyncio or trio until a job ends, but at most `seconds`. Return True if the job has ended."""
    if trio.lowlevel.in_trio_run():
        token, ending = trio.lowlevel.current_trio_token(), trio.Event()

        def wake_trio() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(ending.set)

        with job.calling(wake_trio), trio.move_on_after(seconds):
            await ending.wait()
        return job.is_done
    import asyncio  # asyncio is running; imported only here, since loading it takes a while

    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake_asyncio() -> None:
        with suppress(RuntimeError):  # the asyncio loop is closed
            loop.call_soon_threadsafe(event.set)

    with job.calling(wake_asyncio), suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return job.is_done


def runs_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
