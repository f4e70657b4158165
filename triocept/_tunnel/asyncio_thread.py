"""An asyncio loop in a worker thread, for a package that needs asyncio.

Rules:

1. The thread ends when the context of `open_asyncio` is exited. No asyncio code runs in trio's thread.
2. If a call is cancelled, its asyncio task is cancelled, and the call waits for the task to end. If the task's clean-up
   takes too long, the task is cancelled again.
3. Work that asyncio runs in threads, such as the look-up of a host name, cannot be cancelled. So a cancelled task does
   not wait until such work has ended.
4. KeyboardInterrupt is never raised in this code, because the interrupt could leave a thread that never ends.
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
"""Seconds that the clean-up of a cancelled call may take before the call is cancelled again."""


@protected_context
async def open_asyncio() -> AsyncIterator[AsyncioThread]:
    """Run an asyncio loop in a thread while the body runs.

    Raises:
        Exception: the thread or the loop could not be started.

    Cancellation: cancels the body, or the start of the thread. In both cases, the thread ends immediately.
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
            thread._stopped = True
            if thread._loop is not None and thread._end is not None:
                with suppress(RuntimeError):  # the asyncio loop has just ended
                    thread._loop.call_soon_threadsafe(thread._end.set)
    raise_all(errors if thread._error is None else [*errors, thread._error])


@final
class AsyncioThread:
    """A running asyncio loop in a worker thread. Only `open_asyncio` creates instances."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._stopped = False
        self._ready = trio.Event()
        """Set when the loop runs, or when its start has failed."""
        self._error: Exception | None = None

    @trio.lowlevel.enable_ki_protection
    async def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the asyncio loop, and return the function's result.

        Cancellation: cancels the coroutine on the loop, and waits for its clean-up.

        Raises:
            Exception: the exception of the function.
        """
        assert self._loop is not None
        token, done = trio.lowlevel.current_trio_token(), trio.Event()
        tasks: list[asyncio.Task[T]] = []

        async def run() -> T:
            return await function()  # the call itself may raise

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
                tasks[0].exception()  # marks the exception as retrieved
            raise
        if tasks[0].cancelled():
            raise RuntimeError("asyncio cancelled the call, although trio did not cancel it")
        return tasks[0].result()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """Run the loop's thread until `_stopped` or `_end` is set. A cancellation has no effect."""
        token = trio.lowlevel.current_trio_token()

        def run_loop() -> None:
            # Not `asyncio.run`, which waits for all calls of its executor, such as a look-up that is never answered.
            loop = asyncio.new_event_loop()
            try:
                loop.set_default_executor(_Threads())
                loop.run_until_complete(self._serve(loop, token))
            finally:
                loop.close()

        try:
            if not self._stopped:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(run_loop, limiter=trio.CapacityLimiter(1))
        except Exception as exc:
            self._error = exc
        finally:
            self._ready.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop, token: trio.lowlevel.TrioToken) -> None:
        self._loop, self._end = loop, asyncio.Event()
        if not self._stopped:  # `open_asyncio` sets the flag before it reads these two
            token.run_sync_soon(self._ready.set)
            await self._end.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLEAN_UP)
        await loop.shutdown_asyncgens()


@final
class _Threads(ThreadPoolExecutor):
    """An executor with a new thread for each call. The end of the program does not wait for these threads."""

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
