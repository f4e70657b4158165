"""An asyncio loop in a worker thread, for a package that knows nothing else.

Rules:

1. The thread ends with its context, and nothing of asyncio runs in trio's own.
2. A call that is cancelled is cancelled there, and waited for; what cleans up for too long is cancelled again.
3. What asyncio itself does in threads (a look-up of a name) cannot be cancelled, and is never waited for.
4. A Ctrl-C lands in none of this: half started, or half ended, it would never end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, final

import trio

from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all

P = ParamSpec("P")
T = TypeVar("T")

CLEAN_UP = 10.0
"""Seconds that a cancelled call has to clean up, before it is cancelled again."""


@protected_context
async def open_asyncio() -> AsyncIterator[AsyncioThread]:
    """A loop that runs, for as long as the body does.

    Raises:
        Exception: there is no thread or no loop to be had.

    Cancellation: of the body, and of the start; the thread ends all the same, at once.
    """
    thread = AsyncioThread()
    errors: list[BaseException] = []  # raised outside the nursery, which would wrap them
    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread._run)
            with keeping(errors):
                await thread._ready.wait()
                if thread._error is None:
                    yield thread
            thread._stop()
    raise_all(errors if thread._error is None else [*errors, thread._error])


@final
class AsyncioThread:
    """Made by `open_asyncio`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._stopped = False
        self._ready = trio.Event()
        """The loop runs, or will never."""
        self._error: Exception | None = None

    @trio.lowlevel.enable_ki_protection
    async def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it on the loop.

        Cancellation: cancels it there, and waits for its clean-up.

        Raises:
            Exception: what it raised.
        """
        assert self._loop is not None
        token, done = trio.lowlevel.current_trio_token(), trio.Event()
        tasks: list[asyncio.Task[T]] = []

        async def run() -> T:
            return await function()  # which may itself raise

        def begin() -> None:
            tasks.append(asyncio.ensure_future(run()))
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

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """The thread. Shielded: `_stop` ends it."""
        try:
            if not self._stopped:
                token, only_one = trio.lowlevel.current_trio_token(), trio.CapacityLimiter(1)
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._run_loop, token, limiter=only_one)
        except Exception as exc:
            self._error = exc
        finally:
            self._ready.set()

    def _run_loop(self, token: trio.lowlevel.TrioToken) -> None:
        """Not `asyncio.run`: that waits for all that its executor is at, a look-up that nobody answers, say."""
        loop = asyncio.new_event_loop()
        try:
            loop.set_default_executor(_Threads())
            loop.run_until_complete(self._serve(loop, token))
        finally:
            loop.close()

    async def _serve(self, loop: asyncio.AbstractEventLoop, token: trio.lowlevel.TrioToken) -> None:
        self._loop, self._end = loop, asyncio.Event()
        if not self._stopped:  # `_stop` looks at these two after it has said so
            token.run_sync_soon(self._ready.set)
            await self._end.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLEAN_UP)
        await loop.shutdown_asyncgens()

    def _stop(self) -> None:
        self._stopped = True
        if self._loop is not None and self._end is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._end.set)


@final
class _Threads(ThreadPoolExecutor):
    """One for each call, and a program need not wait for any of them at its end: no pool does without that."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="asyncio call", daemon=True).start()
        return future
