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

    Cancellation: of the body; the thread ends all the same, at once.
    """
    thread = AsyncioThread()
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(thread._run)
        try:
            yield thread
        except BaseException as exc:
            error = exc  # re-raised below, outside the nursery: stays bare
        thread._stop()
    if error is not None:
        raise error


@final
class AsyncioThread:
    """Made by `open_asyncio`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

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

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """The thread. Shielded: `_stop` ends it."""
        token, ready = trio.lowlevel.current_trio_token(), trio.Event()

        async def serve() -> None:
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            token.run_sync_soon(ready.set)
            await self._end.wait()

        async def run() -> None:
            await trio.to_thread.run_sync(asyncio.run, serve(), limiter=trio.CapacityLimiter(1))

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await ready.wait()
                task_status.started()

    def _stop(self) -> None:
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
