"""A thread in which trio runs, for programs that do not: what the others ask of it, and its end.

Rules:

1. The thread is a daemon, and no executor's: a program that ends, or whose loop hangs, is not kept by it.
2. A limit of time is a scope in the loop, never a wait in the caller's thread: that would race with what arrives.
3. Who waits is told when nothing can come any more: the loop has ended, or it is blocked, and then by whom.
4. A process that was forked off has the object, and not the thread: it uses nothing of it, and
   nothing is closed there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar, final

import trio

from .._util.failures import keeping, split_cancelled
from ._job import Job, ended
from ._leaving import leave
from ._watch import Watch, place_of

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds in which a loop that is not blocked has answered."""
BREATH = 0.1
"""Seconds that one has which was seen to be blocked."""
ROUND = 2.0
"""Seconds between two looks at whether it is."""


@final
class Loop:
    """trio, in a thread of its own.

    Args:
        name: what the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._watch: Watch | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._opening: trio.CancelScope | None = None
        self._stop = trio.Event()
        self._closing = False
        self._lock = threading.Lock()
        self._jobs: set[Job[Any]] = set()
        self._ended = False
        self._patience = PATIENCE
        self._why: TimeoutError | None = None
        """What was said of a loop that is blocked."""

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked off from the one that the thread is in."""
        return os.getpid() != self._pid

    # Its life

    @contextmanager
    def running(self, context: AbstractAsyncContextManager[T, Any]) -> Iterator[T]:
        """Run it, with `context` open in it, for as long as the block runs.

        Raises:
            BaseException: what `context` raised when it was opened or closed.
            TimeoutError: the loop is blocked, and does not end.
        """
        opening, ending = Job[T](), Job[None]()
        run = partial(self._run, context, opening, ending)
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._watch = Watch(self._thread)
        try:
            self._thread.start()
            self._watch.start()
            self.wait(opening)
            yield opening.take()
        except BaseException as exc:
            leave(exc, self._close(ending))
            raise
        else:
            leave(None, self._close(ending))
        finally:
            self._ask_to_end()  # what a Ctrl-C has cut short; else nothing
            self._watch.stop()

    def warn(self) -> None:
        """Tell who has blocked it for long, and was not told of before; RuntimeWarning, where those are errors."""
        __tracebackhide__ = True
        if self._watch is not None and not self.is_forked:
            self._watch.warn()

    def _close(self, ending: Job[None]) -> list[BaseException]:
        """End what runs in it, and wait for that; what went wrong."""
        errors: list[BaseException] = []
        if self._thread is not None and self._thread.ident is not None and not self.is_forked:
            with keeping(errors):
                self._ask_to_end()
                self.wait(ending)
                ending.take()
                self._thread.join(PATIENCE)
        return errors

    def _ask_to_end(self) -> None:
        self._closing = True
        if self._token is not None and not self.is_forked:
            with suppress(RuntimeError):  # it has ended
                self.soon(self._end)

    def _end(self) -> None:
        if self._nursery is None and self._opening is not None:
            self._opening.cancel()
        self._stop.set()

    def _run(self, context: AbstractAsyncContextManager[T, Any], opening: Job[T], ending: Job[None]) -> None:
        """All of the thread."""
        errors: list[BaseException] = []
        with keeping(errors):
            instruments = [self._watch] if self._watch is not None else []
            trio.run(self._main, context, opening, instruments=instruments)
        with self._lock:
            self._ended = True
            jobs, self._jobs = self._jobs, set()
        for job in jobs:
            job.fail(over())
        if not opening.is_done:
            opening.fail(errors.pop() if errors else over())
        if errors:
            ending.fail(errors[0])
        else:
            ending.succeed(None)

    async def _main(self, context: AbstractAsyncContextManager[T, Any], opening: Job[T]) -> None:
        self._opening = opening.scope
        self._token = trio.lowlevel.current_trio_token()
        if self._closing:  # before there was a loop to be told so
            self._end()
        with opening.scope:
            async with context as value, trio.open_nursery() as nursery:
                self._nursery = nursery
                opening.succeed(value)
                await self._stop.wait()
                nursery.cancel_scope.cancel()

    # What is asked of it

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call an async function in the loop, and wait for what it gives.

        Raises:
            BaseException: what it raised; or a Ctrl-C, which cancels it.
            RuntimeError: the loop has ended, or is another process's.
            TimeoutError: it is blocked.
        """
        return self.do(Job[T](), function, *args)

    def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that is not async in the loop; errors as of `call`. It is in no task of its own."""
        job = Job[T]()
        try:
            self._submit(job, partial(_answer, job, function, args))
            self.wait(job)
            return job.take()
        except BaseException:
            job.abandon()
            raise
        finally:
            with self._lock:
                self._jobs.discard(job)

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that reads nothing but what never changes: here, without a wait for the loop.

        Raises:
            BaseException: what it raised.
            RuntimeError: as of `call`.
        """
        self._check()
        if self._ended or self._token is None:
            raise over()
        return function(*args)

    def do(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """As `call`, with a job that gives back what came when nobody waited any more."""
        try:
            self.submit(job, function, *args)
            self.wait(job)
            return job.take()
        except BaseException:
            self.give_up(job)
            raise

    async def do_async(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """As `do`, for a task of asyncio's, or of a trio in another thread: its cancellation cancels the job."""
        try:
            self.submit(job, function, *args)
            await self._wait_async(job)
            return job.take()
        except BaseException:
            job.abandon()
            with suppress(RuntimeError):
                self.soon(job.scope.cancel)
            raise

    def submit(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> None:
        """Begin a job; errors as of `call`."""
        self._submit(job, partial(self._begin, job, function, args))

    def _submit(self, job: Job[Any], begin: Callable[[], object]) -> None:
        self._check()
        self.soon(begin)
        job.begun = True
        with self._lock:
            self._jobs.add(job)
            ended = self._ended
        if ended:
            job.fail(over())

    def give_up(self, job: Job[Any]) -> None:
        """Nobody waits for it any more: it is cancelled."""
        job.abandon()
        if not job.is_done and not self.is_forked:
            try:
                self.soon(job.scope.cancel)
            except RuntimeError:  # it has ended
                return
            if job.begun:
                job.wait(self._patience)

    def _begin(self, job: Job[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._work, job, function, args)

    async def _work(self, job: Job[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        errors: list[BaseException] = []
        with keeping(errors), job.scope:
            job.succeed(await function(*args))
        with self._lock:
            self._jobs.discard(job)
        cancelled, error = split_cancelled(errors[0]) if errors else (None, None)
        job.fail(error or over())  # unless it has succeeded
        if cancelled is not None:
            raise cancelled

    def soon(self, function: Callable[[], object]) -> None:
        """Have this called in the loop; RuntimeError: it has ended."""
        if self._token is None:
            raise over()
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise over() from None

    def _check(self) -> None:
        if self.is_forked:
            raise RuntimeError(
                f"the endpoint runs in process {self._pid}, and this one ({os.getpid()}) was forked off from it: it "
                "can call the endpoint as any client can, and cannot hold its rollouts"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "this is the endpoint's own thread, which would wait for itself: an async handler awaits what the "
                "`Exchange` that it is given has, and a plain function runs in a thread of its own"
            )

    def wait(self, job: Job[Any]) -> None:
        """Wait for the end of a job, for as long as the loop is alive; errors as of `call`."""
        while not job.wait(ROUND):
            answer = self._ask_for_life(job)
            if not answer.wait(self._patience) and not job.is_done:
                raise self._blocked()

    async def _wait_async(self, job: Job[Any]) -> None:
        while not await ended(job, ROUND):
            answer = self._ask_for_life(job)
            if not await ended(answer, self._patience) and not job.is_done:
                raise self._blocked()

    def _ask_for_life(self, job: Job[Any]) -> Job[None]:
        """What ends soon, unless the loop is blocked. One that has ended fails the jobs that it leaves."""
        answer = Job[None]()
        try:
            self.soon(partial(answer.succeed, None))
        except RuntimeError:
            if not job.wait(PATIENCE):
                raise
            answer.succeed(None)
        return answer

    def _blocked(self) -> TimeoutError:
        """What is told who waits in vain; all are told the same, and only the first has waited long."""
        assert self._thread is not None
        self._patience = BREATH
        if self._watch is not None:
            self._watch.note_told()
        if self._why is None:
            self._why = TimeoutError(
                f"for {PATIENCE:g} s the endpoint has not answered: its loop is blocked in {place_of(self._thread)}. "
                "A handler that blocks is a plain function, not an async one: it runs in a thread of its own then"
            )
        return self._why


def _answer(job: Job[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    """All of a job that waits for nothing."""
    errors: list[BaseException] = []
    with keeping(errors):
        job.succeed(function(*args))
    for error in errors:
        job.fail(error)


def over() -> RuntimeError:
    """What is told who comes after the end."""
    return RuntimeError("the endpoint has ended: this came after its block")
