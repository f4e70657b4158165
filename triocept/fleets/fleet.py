"""The class `Fleet`: it starts, replaces and ends workers, and runs maps (calls of `Fleet.map`) on them.

Rules:

1. Every worker ends before the `async with` block of its fleet has ended, and every call before its map has ended.
2. A dead worker is replaced. If the replacement cannot be started, the fleet tries again for some seconds. When no
   worker is alive and none is being started, every map raises `FleetLost`.
3. If a worker cannot be started when the fleet opens, `open_fleet` raises the exception of that start itself, not an
   exception group.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import isroutine
from itertools import count
from typing import TypeVar, final

import trio

from .._rollout.event_loop import check_loop
from .._upstream.pausing import Pause, PauseMode
from .._util.checks import (
    check_bool,
    check_callable,
    check_choice,
    check_count,
    check_number,
    described,
    takes,
)
from .._util.contexts import protected_context, shown, shown_context
from .._util.failures import keeping, keeping_each, raise_all, split_cancelled
from .each import (
    FindUpstreams,
    WorkerFunction,
    call_worker,
    end_pauses,
    finish,
    hold_calls,
    pause_servers,
    update_versions,
)
from .engine import Engine, FleetWorker, WorkerLost
from .events import (
    EventStream,
    FleetResized,
    MapEvents,
    Observers,
    WorkerDied,
    WorkerGivenUp,
    WorkerLeft,
    WorkerStarted,
)
from .functions import RetryIf, RolloutFunction, SampleFunction, name_of, takes_sample
from .groups import StopGroup
from .in_process import InProcess
from .mapping import Mapping, Results
from .progress import Words, show_progress
from .site import OpenWorker
from .slots import Slots
from .store.keys import TaskKey
from .store.store import Store, map_store
from .tasks import TaskSource

Task = TypeVar("Task")
T = TypeVar("T")

log: logging.Logger = logging.getLogger("triocept.fleet")

FRESH = 10.0
"""Seconds after a worker's start: if the worker dies earlier, and no call ran in it, its death is an early death. After
several early deaths in a row, the worker is no longer replaced (`PAUSES`).
"""
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses in seconds before another worker is started, after 0, 1, 2, … early deaths or failed starts in a row. After
the last pause and one more such failure, the worker is not replaced any more."""


@shown_context
async def open_fleet(
    engine: Engine | None = None,
    *,
    worker: OpenWorker | None = None,
    retries: int = 2,
    grace: float = 20.0,
    progress: bool = False,
) -> AsyncIterator[Fleet]:
    """Open a fleet, and yield it when its workers are ready: `async with open_fleet(Processes(4)) as fleet`.

    Args:
        engine: the kind and number of workers, for example `Processes(4)`. None means `InProcess()`.
        worker: a function that returns an async context manager, for example `serve_endpoint` with options, or your
            own function that opens an upstream, tools, a tunnel or a pool. Each worker enters the context once. In
            this worker, the context's value is the first argument of every call of a map's function. `worker` must be
            importable, or defined in `__main__`. None means `serve_endpoint`.
        retries: maximum retries of a task whose worker died while no other task ran in it. When exceeded: the outcome
            is `Outcome.Lost`. If several tasks ran in a worker that died, all of them run again, in different workers,
            so that the task that ended the worker is found. `retries` also limits how often `retry_if` can retry a
            task.
        grace: maximum seconds for a worker to close its context, or for a cancelled call to end. When exceeded: the
            worker is killed. An agent that ignores SIGTERM needs 5 s to end.
        progress: True shows the progress of each map and the outcomes of its tasks on standard error. In a terminal
            the lines are updated; otherwise a line is printed every 30 seconds. Other output appears above the lines.

    Raises:
        BaseException: the exception that the function `worker` raised.
        WorkerLost: one of the first workers died before it was ready.
        TypeError: `worker` cannot be sent to the workers.

    Cancellation, closing: all workers close their contexts at the same time, and end. A worker that has not ended
    within `grace` seconds is killed.
    """
    check_loop("open_fleet")
    engine = InProcess() if engine is None else engine
    given: object = engine
    if not isinstance(given, Engine):
        found = f"the class {given.__name__}" if isinstance(given, type) else described(given)
        hint = "; pass the function of the tasks to fleet.map" if isroutine(given) else ""
        raise TypeError(f"engine must be an instance, such as Processes(4), not {found}{hint}")
    check_count("retries", retries)
    check_number("grace", grace, positive=True)
    if worker is not None and not takes(worker, 0):
        raise TypeError(
            f"worker must be a function without arguments that opens a context, not {described(worker)}"
        )
    shape: object = progress  # an evaluation passes its own words
    words = shape if isinstance(shape, Words) else None
    if words is None:
        check_bool("progress", progress)
    setup = engine.packing.pack(worker, "worker", keep=True)
    errors: list[BaseException] = []
    with keeping_each(errors):
        async with engine.opened(), trio.open_nursery() as nursery:
            observers = Observers()
            fleet = Fleet(engine, setup, retries, grace, nursery, observers)
            display = trio.CancelScope(shield=True)  # kept to the very end, also after a cancellation
            with keeping(errors):
                if progress:
                    await nursery.start(partial(show_progress, words=words), observers, display)
                try:
                    await fleet._hire(engine.workers)
                    yield fleet
                finally:
                    try:
                        with trio.CancelScope(shield=True):
                            await fleet._close()
                    finally:  # a Ctrl-C is raised now, too
                        observers.close()
                        display.cancel()
            nursery.cancel_scope.cancel()
    raise_all(errors)


@final
class Fleet:
    """A set of running workers. `map` runs a function for many tasks on them. Made by `open_fleet` only."""

    def __init__(
        self,
        engine: Engine,
        setup: bytes,
        retries: int,
        grace: float,
        nursery: trio.Nursery,
        observers: Observers,
    ) -> None:
        self._engine = engine
        self._retries = retries
        self._grace = grace
        self._nursery = nursery
        self._observers = observers
        self._maps = count()
        self._slots = Slots(engine.slots_per_worker, 0)
        self._admission = _Admission()
        self._new_position = partial(_Position, engine, setup, grace, self._slots, observers, self._admission)
        self._positions: list[_Position] = []
        self._numbers = count()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Fleet of {self._engine!r}: {len(self._slots.workers)} workers>"

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the living workers."""
        return tuple(worker.name for worker in self._slots.workers)

    def events(self, buffer: int = 10_000) -> AbstractContextManager[EventStream]:
        """Open a stream of the events that the fleet sends from now on.

        Use it as `with fleet.events() as events: async for event in events: …`.

        Args:
            buffer: maximum unread events. When exceeded: further events are dropped, and the stream yields one
                `EventsMissed` with their number. A slow reader delays neither the fleet nor other readers.

        The stream ends when the fleet has ended. If your program should also get the last events, read the stream in a
        task of a nursery that is opened outside the `open_fleet` block.
        """
        check_count("buffer", buffer, least=1)
        return self._observers.events(buffer)

    def map(
        self,
        function: RolloutFunction[Task, T] | SampleFunction[Task, T],
        tasks: Iterable[Task] | AsyncIterable[Task],
        *,
        ordered: bool = False,
        retry_if: RetryIf | None = None,
        priority: int = 0,
        group_size: int | None = None,
        stop_group: StopGroup | None = None,
        timeout: float | None = None,
        prefetch: int = 0,
        store: Store | None = None,
        key: TaskKey | None = None,
    ) -> AbstractAsyncContextManager[Results[Task, T]]:
        """Run `function` for each task: `async with fleet.map(solve, tasks) as results: async for result in results`.

        Args:
            function: `async (worker, task, *, attempt) -> T`; see `RolloutFunction`.
            tasks: an iterable or async iterable; it may be endless. The map reads a task only when a slot is free.
            ordered: True yields the results in the order of the tasks; False yields each result when it arrives.
            retry_if: called with an exception that the function raised; returns True if the task should run again. A
                task is retried at most `retries` times (see `open_fleet`).
            priority: priority among the maps of this fleet: the map with the highest value gets the next free slot.
            group_size: number of samples of each task, each with its own outcome (`result.group`, `result.sample`),
                attempts and rollouts. A function with a `sample` parameter is called with the sample's index.
                `results.groups()` yields whole groups. If None, each task is run once, and there are no groups.
            stop_group: called with the group's results so far after each result of a group, except the last; returns
                True if the group should end now. Running samples of the group are then cancelled, and waiting samples
                never start. The outcome of all these samples is `Outcome.Stopped`.
            timeout: maximum seconds of one call of the function. When exceeded: the call is cancelled, and its outcome
                is an `Outcome.Error` with a `trio.TooSlowError`. If the function shields itself from cancellation for
                longer than the fleet's `grace`, its worker is killed, which ends the worker's other calls, too. The
                other calls whose timeouts have passed get the same outcome; all remaining calls run again. With
                `InProcess`, the map waits until the call ends. If a call blocks the worker's trio loop (`time.sleep`),
                the worker's other calls cannot run meanwhile. So for all calls of the worker, each blocked period
                counts as at most a tenth of the timeout. `timeout` therefore does not end a function that blocks the
                loop; use `Processes(hung_after=)` to end it. None means no limit.
            prefetch: number of unread results that may exist in addition to one for each slot. While the program (such
                as a trainer) works for long between two reads, the workers produce this many results in advance.
            store: store in which the results are stored and the rollouts recorded. A task whose outcome is in the store
                is not run, and yields no result (`results.skipped` counts it). But if any sample of a group must run,
                the whole group is yielded, including its stored results. The function must return JSON; any other
                value is an error.
            key: `(task) -> a text or a number` that identifies the task in the store. If None, the key is the task's
                `id` (a member of a mapping, or an attribute). If the task has no `id`, its key is a digest of its JSON.

        Raises:
            TypeError: the function takes other arguments, or cannot be sent to a worker; a task has no key.
            StoreError: two tasks have the same key; the store was closed, is used by another map, or contains results
                of another function. If the iterable of tasks can be read only once, each task is checked when it is
                read.

        When the block is left or cancelled, the running calls are cancelled. The block ends when these calls and their
        agents have ended. A worker that does not end its calls within the fleet's `grace` is killed.
        """
        self._check_open()
        passes_sample, name = takes_sample(function), name_of(function)
        if not isinstance(tasks, (Iterable, AsyncIterable)):
            raise TypeError(f"tasks must be an iterable or an async iterable, not {described(tasks)}")
        check_bool("ordered", ordered)
        if group_size is not None:
            check_count("group_size", group_size, least=1)
        if stop_group is not None:
            check_callable("stop_group", stop_group, "a function of a group's results")
            if group_size is None:
                raise TypeError("stop_group needs groups: pass group_size= as well")
            if not takes(stop_group, 1):
                raise TypeError(
                    f"stop_group must take one argument, the results so far; {name_of(stop_group)} does not"
                )
        if timeout is not None:
            check_number("timeout", timeout, positive=True)
        check_count("prefetch", prefetch)
        if store is not None and not isinstance(store, Store):
            raise TypeError(
                f"store must be an open store, not {described(store)}: write `async with open_store(path) as store`"
            )
        if key is not None and store is None:
            raise TypeError("key= needs a store: pass store= as well")
        packing = self._engine.packing
        packed = packing.pack(function, f"the function {name}", keep=True)
        total = len(tasks) * (group_size or 1) if isinstance(tasks, Sized) else None
        map_of_store = None if store is None else map_store(store, name, key, tasks)
        events = MapEvents(self._observers, next(self._maps), name, total)
        mapping: Mapping[Task, T] = Mapping(
            function=packed,
            source=TaskSource(
                tasks, group_size, stop_group, map_of_store, ordered=ordered, on_skipped=events.skipped
            ),
            slots=self._slots,
            packing=packing,
            ordered=ordered,
            retries=self._retries,
            retry_if=retry_if,
            priority=priority,
            group_size=group_size,
            passes_sample=passes_sample,
            timeout=timeout,
            grace=self._grace,
            prefetch=prefetch,
            store=map_of_store,
            events=events,
        )
        return shown(mapping.opened(), "fleet.map", "results")

    async def each(self, function: WorkerFunction[T]) -> dict[str, T]:
        """Run `await function(worker)` once in each worker, all at the same time; return the results by worker name.

        The function runs concurrently with the calls of maps, and needs no slot. A worker that starts during this call,
        for example as the replacement of a dead worker, runs the function, too. The results contain no entry for a dead
        worker.

        Args:
            function: `async (worker) -> T`, importable or defined in `__main__`. The argument is the value that
                `worker=` of `open_fleet` has opened.

        Raises:
            TypeError: the function takes other arguments, or cannot be sent to the workers.
            BaseException: the exception that the function raised. It is raised after the function has ended in all
                workers. If the function failed in several workers, the exceptions are raised as a group.

        Cancellation: cancels the function in each worker.
        """
        self._check_open()
        check_callable("function", function, "an async function of the worker")
        if not takes(function, 1):
            raise TypeError(
                f"`each` calls `await function(worker)`, but {name_of(function)} does not take one argument"
            )
        return await self._each(function, with_starting=True)

    def paused(
        self, mode: PauseMode = "keep", *, upstreams: FindUpstreams | None = None
    ) -> AbstractAsyncContextManager[dict[str, tuple[Pause, ...]]]:
        """Pause the upstreams of all workers while the body changes the weights on the inference servers.

        Use it as `async with fleet.paused(upstreams=attrgetter("upstream")) as pauses`; see `Upstream.paused`. `pauses`
        maps the name of each worker to its pauses. A worker that starts during the block gets no calls before the block
        ends.

        Args:
            mode: see `Upstream.paused`.
            upstreams: `(worker) -> upstreams`: returns one or more upstreams of a worker. It must be importable, or
                defined in `__main__`. None means that the value opened by `worker=` of `open_fleet` is an upstream.

        Raises:
            ValueError: `mode` is unknown.
            RuntimeError: the fleet is already paused, or is closed.
            UpstreamError: see `Upstream.paused`.
            TypeError: see `Upstream.paused`; or `upstreams` does not return upstreams.

        Closing, cancellation: each living worker resumes its upstreams. This takes at most 90 s, and is shielded from
        cancellation.
        """
        self._check_open()
        check_choice("mode", mode, PauseMode)
        if upstreams is not None:
            check_callable("upstreams", upstreams, "a function of the worker")
        return shown(self._paused(mode, upstreams), "fleet.paused", "pauses")

    @protected_context
    async def _paused(
        self, mode: PauseMode, upstreams: FindUpstreams | None
    ) -> AsyncIterator[dict[str, tuple[Pause, ...]]]:
        self._admission.close()
        errors: list[BaseException] = []
        with keeping(errors):
            await self._each(partial(hold_calls, upstreams, mode))
            yield await self._each(partial(pause_servers, upstreams))
        for step in (update_versions, end_pauses):
            errors += await finish(partial(self._each, partial(step, upstreams)))
        self._admission.open()
        raise_all(errors)

    async def _each(self, function: WorkerFunction[T], *, with_starting: bool = False) -> dict[str, T]:
        """Run `function` in each worker, and return its return values by the worker's name.

        If `with_starting` is True, also wait for the workers that are being started, and run `function` in them.
        """
        results: dict[str, T] = {}
        errors: list[BaseException] = []
        done: set[FleetWorker] = set()
        lost: set[FleetWorker] = set()

        async def run(worker: FleetWorker) -> None:
            with keeping(errors):  # an error in one worker does not stop the others
                if not await call_worker(worker, function, self._engine.packing, results):
                    lost.add(worker)

        while True:
            changed = self._admission.changed
            new = [
                each.worker for each in self._positions if each.worker is not None and each.worker not in done
            ]
            if new:
                done.update(new)
                errors += await _run_together([partial(run, worker) for worker in new])
            elif with_starting and any(
                each.worker is None or each.worker in lost
                for each in self._positions
                if not each.over.is_set()
            ):
                await changed.wait()
            else:
                break
        if len(faults := [error for error in errors if split_cancelled(error)[1] is not None]) > 1:
            raise BaseExceptionGroup(f"{name_of(function)} failed in {len(faults)} workers", faults)
        raise_all(errors)
        return results

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the fleet is closed: its block has ended")

    async def resize(self, workers: int) -> None:
        """Change the number of workers.

        If the number becomes larger, the new workers are ready when this method returns. If the number becomes smaller,
        surplus workers get no new calls, and end when their running calls have ended.

        Raises: the errors of `open_fleet`, if a new worker cannot be started.
        """
        check_count("workers", workers, least=1)
        self._observers.send(FleetResized(workers=workers))
        self._positions = [position for position in self._positions if not position.over.is_set()]
        wanted = [position for position in self._positions if not position.leaving.is_set()]
        for position in wanted[workers:]:
            position.leave()
        await self._hire(workers - len(wanted))

    async def _hire(self, number: int) -> None:
        new = [self._new_position(f"worker {next(self._numbers)}") for _ in range(number)]
        self._positions += new
        errors = await _run_together([partial(self._nursery.start, position.run) for position in new])
        raise_all(errors[:1])  # several workers that failed to open at once failed for one reason

    async def _close(self) -> None:
        self._closed = True
        raise_all(await _run_together([position.close for position in self._positions]))


async def _run_together(steps: Iterable[Callable[[], Awaitable[object]]]) -> list[BaseException]:
    """Call all `steps` at the same time, wait until all have ended, and return the exceptions that they raised."""
    errors: list[BaseException] = []
    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            for step in steps:
                nursery.start_soon(step)
    return errors


class _Admission:
    """Gate that is closed while the fleet is paused, so that newly started workers get no calls."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        """Event that is set when the next worker of the fleet has started or ended, and is then replaced by a new
        event.
        """
        self._opened: trio.Event | None = None

    @property
    def is_open(self) -> bool:
        return self._opened is None

    def close(self) -> None:
        """Close the gate: workers that start from now on get no calls until `open` is called."""
        if self._opened is not None:
            raise RuntimeError("the fleet is paused already: end the other pause first")
        self._opened = trio.Event()

    def open(self) -> None:
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def wait(self) -> None:
        """Wait until new workers may get calls; return at once if the fleet is not paused."""
        if self._opened is not None:
            await self._opened.wait()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


@dataclass(eq=False)
class _Position:
    """The place of one worker in a fleet. When its worker dies, the place starts another worker."""

    engine: Engine
    setup: bytes
    grace: float
    slots: Slots
    observers: Observers
    admission: _Admission
    name: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    worker: FleetWorker | None = None
    has_slots: bool = False
    """True if the position's current worker has slots, so that calls can be assigned to it."""
    had_worker: bool = False
    leaving: trio.Event = field(default_factory=trio.Event)
    """Event that `leave` sets: the position's worker gets no new calls, and is not replaced."""
    over: trio.Event = field(default_factory=trio.Event)
    """Event that is set when `run` has ended: the position has no worker, and starts no other worker."""

    def leave(self) -> None:
        """Give the worker of this place no new calls.

        When the worker's running calls have ended, the worker ends. It is not replaced.
        """
        if self.leaving.is_set():
            return
        self.leaving.set()
        if self.worker is not None:
            if self.has_slots:
                self.slots.retire(self.worker)
            self.observers.send(WorkerLeft(worker=self.worker.name))

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run a worker, and replace it when it dies.

        Until the first worker has started, the method can be cancelled. After that, the method ends only if `leave` or
        `close` is called, or if the worker is no longer replaced.
        """
        self.slots.expect()
        early = 0
        try:
            with self.scope:
                while not self.leaving.is_set():
                    why = await self._run_worker(task_status)
                    early = 0 if why is None else early + 1
                    if early >= len(PAUSES):
                        log.error(
                            "%s is no longer replaced, because it died too early again: %s", self.name, why
                        )
                        self.observers.send(
                            WorkerGivenUp(worker=self.name, reason=str(why) or type(why).__name__)
                        )
                        self.slots.give_up(why)
                        return
                    with trio.move_on_after(PAUSES[early]):
                        await self.leaving.wait()
                self.slots.give_up()
                if not self.had_worker:
                    task_status.started()
        finally:
            self.over.set()
            self.admission.notify()

    async def _run_worker(self, task_status: trio.TaskStatus[None]) -> Exception | None:
        """Run one worker until it ends. Return None, or a `WorkerLost` or other exception if the worker failed early.

        A worker failed early if it died within `FRESH` seconds of its start, before any call ran in it. A replacement
        of a dead worker also failed early if it could not be started. If the first worker of this position cannot be
        started, the exception is raised.
        """
        since = trio.current_time()
        try:
            async with self.engine.open_worker(self.name, self.setup, self.grace) as worker:
                if not self.had_worker:
                    self.had_worker = True
                    task_status.started()
                    await trio.lowlevel.checkpoint()  # until here, the caller that starts it can be cancelled
                    self.scope.shield = True
                since = trio.current_time()
                if not self.leaving.is_set() and await self._give_calls(worker):
                    return None
        except Exception as exc:
            if not self.had_worker:
                self.slots.give_up(exc)
                raise
            log.error("%s failed: %s", self.name, exc)  # noqa: TRY400 - the maps raise it
            return exc
        except trio.Cancelled:
            if not self.had_worker:
                self.slots.give_up()
            raise
        if trio.current_time() - since >= FRESH:
            return None
        return WorkerLost(self.name, f"it died within {FRESH:g} s of its start, before any call ran in it")

    async def _give_calls(self, worker: FleetWorker) -> bool:
        """Let `worker` run calls, and return True if it ran any.

        The method returns when the worker is dead, or when `leave` was called and its running calls have ended.
        """
        self.worker = worker
        worker.changed = self.slots.assign
        self.observers.send(WorkerStarted(worker=worker.name))
        self.admission.notify()
        was_used = False
        try:
            async with trio.open_nursery() as nursery:

                async def end_when_idle() -> None:
                    await self.leaving.wait()
                    if self.has_slots:
                        await self.slots.wait_idle(worker)
                    nursery.cancel_scope.cancel()

                if self.admission.is_open:
                    self._add_slots(worker)
                else:
                    nursery.start_soon(self._await_admission, worker)
                nursery.start_soon(end_when_idle)
                await worker.wait_lost()
                log.warning("%s was lost: %s", worker.name, worker.reason)
                if not self.leaving.is_set():
                    self.observers.send(WorkerDied(worker=worker.name, reason=worker.reason))
                nursery.cancel_scope.cancel()
        finally:
            self.worker = None
            if self.has_slots:
                self.has_slots = False
                was_used = self.slots.remove(worker)
            self.admission.notify()
        return was_used

    async def _await_admission(self, worker: FleetWorker) -> None:
        await self.admission.wait()
        if not self.leaving.is_set():
            self._add_slots(worker)

    def _add_slots(self, worker: FleetWorker) -> None:
        self.has_slots = True
        self.slots.add(worker)

    async def close(self) -> None:
        """Cancel the calls that run in this place's worker, end the worker, and wait until it has ended."""
        self.leave()
        self.scope.cancel()
        await self.over.wait()
