"""An asyncio loop in a worker thread, for a package that knows nothing else.

Rules:

1. The thread ends with its context, and nothing of asyncio runs in trio's own.
2. A call that is cancelled is cancelled there, and waited for; what cleans up for too long is cancelled again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, final

import trio

__all__ = ["AsyncioThread", "open_asyncio"]

T = TypeVar("T")

CLEAN_UP = 10.0
"""Seconds that a cancelled call has to clean up, before it is cancelled again."""


@asynccontextmanager
async def open_asyncio() -> AsyncIterator[AsyncioThread]:
    """A loop that runs, for as long as the body does.

    Raises:
        Exception: there is no thread or no loop to be had.

    Cancellation: of the body, and of the start; the thread ends all the same, at once.
    """
    thread = AsyncioThread()
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread._run)
        try:
            await thread._ready.wait()
            if thread._error is None:
                yield thread
        except BaseException as exc:
            error = exc  # re-raised below, outside the nursery: stays bare
        with trio.CancelScope(shield=True):
            await thread._ready.wait()  # a loop that is being made cannot be told yet
        thread._stop()
    error = error or thread._error
    if error is not None:
        raise error


@final
class AsyncioThread:
    """Made by `open_asyncio`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._ready = trio.Event()
        """The loop runs, or will never."""
        self._error: Exception | None = None

    async def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it on the loop.

        Cancellation: cancels it there, and waits for its clean-up.

        Raises:
            Exception: what it raised.
        """
        assert self._loop is not None
        token, done = trio.lowlevel.current_trio_token(), trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(asyncio.ensure_future(function()))
            tasks[0].add_done_callback(lambda _: token.run_sync_soon(done.set))

        self._loop.call_soon_threadsafe(begin)
        try:
            await done.wait()
        except BaseException:
            with trio.CancelScope(shield=True):
                while not done.is_set():
                    self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                    with trio.move_on_after(CLEAN_UP):
                        await done.wait()
            if not tasks[0].cancelled():
                tasks[0].exception()  # seen
            raise
        if tasks[0].cancelled():
            raise RuntimeError("the call was cancelled by nobody here")
        return tasks[0].result()

    async def _run(self) -> None:
        """The thread. Shielded: `_stop` ends it."""
        token = trio.lowlevel.current_trio_token()

        async def serve() -> None:
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            token.run_sync_soon(self._ready.set)
            await self._end.wait()

        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(lambda: asyncio.run(serve()), limiter=trio.CapacityLimiter(1))
            except Exception as exc:
                self._error = exc
            finally:
                self._ready.set()

    def _stop(self) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
