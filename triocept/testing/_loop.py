"""The thread that runs a trio loop for programs without trio, and calls from other threads into this loop.

Rules:

1. The thread is a daemon and belongs to no executor. Therefore a program can end even if the loop hangs.
2. A time limit is a cancel scope in the loop. If the caller's thread limited its wait itself, a model call that arrives
   just at the end of this time could be lost.
3. If the loop has ended or is blocked, no result can arrive, so a waiting caller gets an error. If the loop is blocked,
   the error names the blocking function.
4. A forked process has a copy of the `Loop` object, but not the thread. So the forked process cannot use the loop, and
   closes nothing.
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
from .._util.loop_watch import place_of
from ._job import Job, ended
from ._leaving import leave
from ._watch import Watch

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds without an answer after which the loop counts as blocked."""
BREATH = 0.1
"""Seconds without an answer after which a loop counts as blocked, if an earlier check has found it blocked."""
ROUND = 2.0
"""Seconds that a caller waits between two checks if the loop is blocked."""


@final
class Loop:
    """A trio loop in its own thread, with methods that other threads call."""

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
        """The error that every caller gets because the loop was found to be blocked; None if it was not."""

    @property
    def is_forked(self) -> bool:
        return os.getpid() != self._pid

    # Start and end

    @contextmanager
    def running(self, context: AbstractAsyncContextManager[T, Any]) -> Iterator[T]:
        """Run the loop while the block runs, and keep `context` open in the loop. Raise the exceptions of `context`.

        Raise TimeoutError if the loop cannot end because it is blocked.
        """
        opening, ending = Job[T](), Job[None]()
        run = partial(self._run, context, opening, ending)
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._watch = Watch(self._thread, self.soon)
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
            self._ask_to_end()  # does nothing unless a Ctrl-C interrupted the close
            self._watch.stop()

    def warn(self) -> None:
        __tracebackhide__ = True
        if self._watch is not None and not self.is_forked:
            self._watch.warn()

    def _close(self, ending: Job[None]) -> list[BaseException]:
        """End the loop, and wait until it has ended. Return the errors that were raised when it ended."""
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
            with suppress(RuntimeError):  # the loop has ended
                self.soon(self._end)

    def _end(self) -> None:
        if self._nursery is None and self._opening is not None:
            self._opening.cancel()
        self._stop.set()

    def _run(self, context: AbstractAsyncContextManager[T, Any], opening: Job[T], ending: Job[None]) -> None:
        errors: list[BaseException] = []
        with keeping(errors):
            trio.run(self._main, context, opening)
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
        if self._closing:  # closed before the loop could receive the request
            self._end()
        with opening.scope:
            async with context as value, trio.open_nursery() as nursery:
                self._nursery = nursery
                opening.succeed(value)
                await self._stop.wait()
                nursery.cancel_scope.cancel()

    # Calls into the loop

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call an async function in the trio loop, wait for its result and return the result.

        A Ctrl-C cancels the function.

        Raise RuntimeError if the loop has ended, or belongs to another process. Raise TimeoutError if the loop is
        blocked.
        """
        return self.do(Job[T](), function, *args)

    def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Call a sync function in the loop's thread, wait for its result and return the result.

        Raise the same errors as `call`.
        """
        job = Job[T]()

        def answer() -> None:
            errors: list[BaseException] = []
            with keeping(errors):
                job.succeed(function(*args))
            for error in errors:
                job.fail(error)

        try:
            self._submit(job, answer)
            self.wait(job)
            return job.take()
        except BaseException:
            job.abandon()
            raise
        finally:
            with self._lock:
                self._jobs.discard(job)

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function` in this thread, without the loop, and return its result.

        `function` must read only state that never changes.

        Raise RuntimeError if the loop has ended or belongs to another process.
        """
        self._check()
        if self._ended or self._token is None:
            raise over()
        return function(*args)

    def do(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call an async function as `call` does, but with a `job` that the caller has created.

        If the caller has stopped waiting, `job.on_lost` gets the result.
        """
        try:
            self.submit(job, function, *args)
            self.wait(job)
            return job.take()
        except BaseException:
            self.give_up(job)
            raise

    async def do_async(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call an async function as `do` does, from a task of asyncio or of another trio loop.

        If the task is cancelled, the job is cancelled, too.
        """
        try:
            self.submit(job, function, *args)
            while not await ended(job, ROUND):
                answer = self._ask_for_life(job)
                if not await ended(answer, self._patience) and not job.is_done:
                    raise self._blocked()
            return job.take()
        except BaseException:
            job.abandon()
            with suppress(RuntimeError):
                self.soon(job.scope.cancel)
            raise

    def submit(self, job: Job[T], function: Callable[..., Awaitable[T]], *args: Any) -> None:
        """Start `function` in the loop as a job, without waiting for its end. Raise the same errors as `call`."""

        def begin() -> None:
            assert self._nursery is not None
            self._nursery.start_soon(self._work, job, function, args)

        self._submit(job, begin)

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
        """Stop waiting for a job's result, and cancel the job."""
        job.abandon()
        if not job.is_done and not self.is_forked:
            try:
                self.soon(job.scope.cancel)
            except RuntimeError:  # the loop has ended
                return
            if job.begun:
                job.wait(self._patience)

    async def _work(self, job: Job[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        errors: list[BaseException] = []
        with keeping(errors), job.scope:
            job.succeed(await function(*args))
        with self._lock:
            self._jobs.discard(job)
        cancelled, error = split_cancelled(errors[0]) if errors else (None, None)
        job.fail(error or over())  # no effect if the job has succeeded
        if cancelled is not None:
            raise cancelled

    def soon(self, function: Callable[[], object]) -> None:
        if self._token is None:
            raise over()
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise over() from None

    def _check(self) -> None:
        if self.is_forked:
            raise RuntimeError(
                f"the endpoint runs in process {self._pid}. This process ({os.getpid()}) was forked from it: like any "
                "client, this process can call the endpoint, but it cannot use the endpoint's rollouts"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "this is the endpoint's own thread, which would wait for itself: in an async handler, await the "
                "methods of its `Exchange`, or make the handler a plain function, which runs in its own thread"
            )

    def wait(self, job: Job[Any]) -> None:
        """Block the calling thread until the job ends. Raise the same errors as `call`."""
        while not job.wait(ROUND):
            answer = self._ask_for_life(job)
            if not answer.wait(self._patience) and not job.is_done:
                raise self._blocked()

    def _ask_for_life(self, job: Job[Any]) -> Job[None]:
        """Start a job that does nothing, and return it: if this job does not end soon, the loop is blocked.

        If the loop has already ended, wait until `job`, the job of a caller, has failed.
        """
        answer = Job[None]()
        try:
            self.soon(partial(answer.succeed, None))
        except RuntimeError:
            if not job.wait(PATIENCE):
                raise
            answer.succeed(None)
        return answer

    def _blocked(self) -> TimeoutError:
        """Return the error that callers get because the loop is blocked.

        Later callers then wait only `BREATH` seconds for an answer.
        """
        assert self._thread is not None
        self._patience = BREATH
        if self._watch is not None:
            self._watch.note_reported()
        if self._why is None:
            self._why = TimeoutError(
                f"the endpoint has not answered for {PATIENCE:g} s: its loop is blocked in {place_of(self._thread)}. "
                "Make a handler that blocks a plain function (`def`), which runs in its own thread"
            )
        return self._why


def over() -> RuntimeError:
    return RuntimeError("the endpoint has ended: use the endpoint and its rollouts within its `with` block")
