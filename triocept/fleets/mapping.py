"""A map, which is one call of `Fleet.map`: it calls one function for each task of an iterable.

Each task gets one outcome. If the map ends earlier, its error lists the tasks without an outcome.

Rules:

1. A task is read from the iterable only when a slot is free for this task.
2. If a worker dies, the tasks that ran in it run again, in different workers: see `slots`. A task is lost only if
   workers died while they ran this task alone. An exception of the function is an outcome, except if `retry_if` returns
   True.
3. The number of unread outcomes is limited by the number of slots and by `prefetch`. So if the program reads results
   slowly, the tasks also run more slowly.
4. The map ends when its last task has an outcome.
5. A task may run more than once, since a worker may die before it sends its answer. Still, only one outcome of the task
   is delivered.
6. With groups, these rules apply to each sample of a task.
7. A task whose outcome is in the store is not run. A new outcome is stored before it is delivered. If only some samples
   of a group are in the store, the whole group is delivered, including the stored samples.
8. If a call has not ended within the fleet's `grace` after its timeout, its worker is killed. The outcome of this call
   is an error. If the timeouts of other calls in the same worker have also passed, their outcomes are errors, too. The
   remaining calls of the worker run again; they are not counted as possible causes of the worker's end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, NoReturn, TypeVar, final

import msgspec
import trio

from .._util.failures import keeping, keeping_each, raise_all
from ..errors import FleetLost, StoreError
from .engine import FleetWorker, WorkerLost
from .events import MapEvents
from .functions import RetryIf
from .groups import Groups
from .outcomes import AnyOutcome, Outcome, Result
from .packing import Answer, Job, Packing, failure_of, unpack_answer
from .slots import NoWorkers, Slot, Slots
from .store.recording import Kept
from .store.store import MapStore
from .tasks import Begun, Call, TaskSource

Task = TypeVar("Task")
T = TypeVar("T")


@final
class Results(Generic[Task, T]):
    """The results of a map. Each result is yielded once: `async for result in results`. Made by `Fleet.map` only."""

    def __init__(self, mapping: Mapping[Task, T]) -> None:
        self._mapping = mapping
        self._single = False
        self._groups: Groups[Task, T] | None = None

    def __aiter__(self) -> Results[Task, T]:
        return self

    async def __anext__(self) -> Result[Task, T]:
        """Return the next result.

        Raises:
            StopAsyncIteration: the results of all tasks were returned.
            FleetLost: no worker is left, and some tasks have no outcome.
            StoreError: a result could not be recorded, or two tasks have the same key.
            OSError: the store could not be written.
            BaseException: an exception that the iterable of tasks raised. The results of all tasks that were read
                before are returned first.

        Cancellation: no result is lost; the next call of this method returns it.
        """
        if self._groups is not None:
            raise RuntimeError(
                "the results of this map are read in groups: read each result from its `group.results`"
            )
        result = await self._mapping.next_result()
        self._single = True
        return result

    @property
    def skipped(self) -> int:
        """Number of tasks or samples not run so far, because the store has their outcomes from an earlier run."""
        return self._mapping.source.skipped

    def groups(self) -> Groups[Task, T]:
        """Return the results in groups: `async for group in results.groups()`.

        Each `Group` is yielded when its last sample has its outcome. With `ordered=True`, the groups are yielded in the
        order of the tasks. A program must read the results of a map either all in groups or all one by one.

        Raises:
            RuntimeError: the map has no groups, or the program has already read single results.
        """
        if self._mapping.group_size is None:
            raise RuntimeError("this map has no groups: pass group_size= to fleet.map")
        if self._single:
            raise RuntimeError(
                "single results of this map were read already, so the groups would be incomplete: read a map either "
                "in groups or one by one"
            )
        if self._groups is None:
            self._groups = Groups(self._mapping, self._mapping.group_size)
        return self._groups


@final
@dataclass(eq=False, kw_only=True)
class Mapping(Generic[Task, T]):
    """A running map. For the options see `Fleet.map`."""

    function: bytes
    """The function that the map calls, encoded as bytes."""
    source: TaskSource[Task]
    slots: Slots
    packing: Packing
    ordered: bool
    retries: int
    retry_if: RetryIf | None
    priority: int
    group_size: int | None
    passes_sample: bool
    """True if the function has a parameter `sample`, so that the sample's index is passed to it."""
    timeout: float | None
    grace: float
    """Maximum seconds that a call may still need to end after its timeout has passed."""
    prefetch: int
    store: MapStore | None
    events: MapEvents
    results: dict[int, Result[Task, T]] = field(default_factory=dict)
    """Results that the program has not read yet, by `Call.order`."""
    read: int = 0
    """Number of results that the program has read."""
    unfinished: dict[int, Task] = field(default_factory=dict)
    """Tasks for which at least one outcome will never arrive, because no worker is left. The keys are the tasks'
    indexes.
    """
    no_workers: NoWorkers | None = None
    errors: list[BaseException] = field(default_factory=list)
    over: bool = False
    changed: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Results[Task, T]]:
        """Run the map while the body runs; raise StoreError if another map already uses the store."""
        if self.store is not None:
            self.store.open()
        errors: list[BaseException] = []
        with keeping_each(errors):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run)
                with keeping(errors):
                    yield Results(self)
                nursery.cancel_scope.cancel()
        raise_all(errors)

    async def run(self) -> None:
        """Run all tasks until each of them has an outcome."""
        errors: list[BaseException] = []
        self.events.map_started()
        try:
            # An exception of `retry_if` or `stop_group` ends the map, whatever its reader does.
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    with keeping(self.errors):
                        await self._begin_calls(nursery)
        finally:
            self.over = True
            self.events.map_ended()
            self._notify()
            if self.store is not None:
                self.store.close()
            await self.source.aclose()
        raise_all(errors)

    async def _begin_calls(self, nursery: trio.Nursery) -> None:
        """Start the map's calls one by one, each when a slot is free.

        First get a slot, then read a task. If the task were read first, a waiting call of another map could get the
        slot. If an async iterable does not yield its next task at once, free the slot until the task arrives.
        """
        while True:
            while self.no_workers is None and self.source.calls - self.read > self._most_unread:
                await self.changed.wait()
            if self.no_workers is not None:
                return
            try:
                slot = await self.slots.take(self.priority)
                if self.source.is_async:
                    self.slots.give_back(slot)
                    call = await self.source.next_call()
                    slot = await self.slots.take(self.priority)
                else:
                    try:
                        call = await self.source.next_call()
                    except BaseException:
                        self.slots.give_back(slot)
                        raise
            except NoWorkers as exc:
                self._give_up(exc, self.source.begun)
                return
            except StopAsyncIteration:
                return
            if call.store is not None and call.store.is_done(call.sample):
                self.events.skipped(call.group.number, 1)
                stored = call.store.stored(call.task, call.sample)
                # The task may have had another index, and no group, when it was stored.
                result = msgspec.structs.replace(stored, number=call.number, group=call.group_number)
                self._add(call, result, call.group.open_scope())
                self.slots.give_back(slot)
            else:
                slot.call = self, call.number
                nursery.start_soon(self._run_call, call, slot, nursery)

    @property
    def _most_unread(self) -> int:
        """Maximum sum of running calls and unread results.

        It is doubled if `ordered`: results then wait for earlier tasks.
        """
        return self.slots.total * (2 if self.ordered else 1) + self.prefetch

    def _give_up(self, why: NoWorkers, begun: Begun[Task] | None) -> None:
        """Record that no worker is left (`why`). If `begun` is a call, it will therefore never have an outcome."""
        self.no_workers = why
        if begun is not None:
            self.unfinished[begun.number] = begun.task

    async def _run_call(self, call: Call[Task], slot: Slot, nursery: trio.Nursery) -> None:
        outcome: AnyOutcome[T] = Outcome.Stopped()
        answer = Answer()
        scope = call.group.open_scope()
        try:
            with scope:
                outcome, answer = await self._run_attempts(call, slot)
        except NoWorkers as exc:
            self._give_up(exc, call.group)
        else:
            result = Result(
                task=call.task,
                number=call.number,
                group=call.group_number,
                sample=call.sample,
                attempt=call.attempt,
                worker=call.worker,
                outcome=outcome,
                traces=answer.traces,
                scores=answer.scores,
            )
            try:
                if call.store is not None:
                    result = call.store.kept(result, answer.kept)
            except (StoreError, OSError) as exc:  # tasks that cannot be stored need not run
                if not self.errors:  # a full disk is one error, however many calls meet it
                    self.errors.append(exc)
                nursery.cancel_scope.cancel()
            else:
                self.events.ended(call, result, answer.spent)
                self._add(call, result, scope)
        self._notify()

    def _add(self, call: Call[Task], result: Result[Task, T], scope: trio.CancelScope) -> None:
        self.results[call.order] = result
        self._notify()
        call.group.add(result, scope)

    async def _run_attempts(self, call: Call[Task], slot: Slot) -> tuple[AnyOutcome[T], Answer]:
        """Run a call, and if necessary repeat it, until it has an outcome; then free its slot.

        Return the outcome and the worker's answer.
        """
        retried = 0
        try:
            while True:
                await trio.lowlevel.checkpoint_if_cancelled()  # the group may have been stopped
                worker = slot.worker
                call.attempt, call.worker = call.attempt + 1, worker.name
                self.events.started(call)
                try:
                    packed = await worker.call(self._job(call, slot))
                except WorkerLost as lost:
                    if not slot.overdue:
                        self.slots.lost(slot, worker_lives=lost.worker_lives)
                        call.lost_with = call.lost_with or slot.lost_with
                        call.ended_alone += len(slot.lost_with) == 1
                        if call.ended_alone > self.retries:
                            others = {number for owner, number in call.lost_with if owner is self}
                            reason = f"{lost.reason}, while no other task ran in this worker"
                            return Outcome.Lost(reason, tuple(sorted(others - {call.number}))), Answer()
                        self.events.requeued(call, lost.reason)
                        await self.slots.retake(slot)
                        continue
                    answer = self._answer_of_overdue(worker)
                except TypeError as exc:  # a task that cannot be sent
                    return Outcome.Error(exc), Answer()
                else:
                    answer = unpack_answer(packed, self.packing, has_store=self.store is not None)
                    if answer.overdue:
                        self.slots.end_worker_of(slot, answer.overdue)
                        reason = f"task {call.number} did not end within {self.grace:g} s of its timeout"
                        worker.reason = worker.reason or reason
                        await worker.kill()
                        answer = self._answer_of_overdue(worker)
                if (failure := answer.failure) is None:
                    return Outcome.Value(answer.value), answer
                again = self.retry_if is not None and self.retry_if(failure.error)
                if not again or retried == self.retries:
                    return Outcome.Error(failure.error, failure.traceback), answer
                retried += 1
                self.events.retried(call, failure.error)
                self.slots.give_back(slot)
                await self.slots.retake(slot)
        finally:
            self.slots.give_back(slot)

    def _answer_of_overdue(self, worker: FleetWorker) -> Answer:
        """Return the answer for a call whose timeout has passed and whose worker was killed: a TooSlowError."""
        error = trio.TooSlowError(
            f"the call took longer than the timeout of its map, {self.timeout:g} s, and its worker was killed: "
            f"{worker.reason}"
        )
        return Answer(failure=failure_of(error, self.packing), kept=None if self.store is None else Kept())

    def _job(self, call: Call[Task], slot: Slot) -> bytes:
        job = Job(
            function=self.function,
            task=call.task,
            attempt=call.attempt,
            sample=call.sample if self.passes_sample else None,
            timeout=self.timeout,
            grace=self.grace,
            slot=slot.number,
            record=None
            if call.store is None
            else call.store.record_to(call.sample, call.attempt, call.worker),
        )
        return self.packing.pack(job, f"task {call.group.number} ({type(call.task).__name__})")

    async def next_result(self) -> Result[Task, T]:
        """Return the next result; at the end of the map, raise StopAsyncIteration or the error that ended the map."""
        if not await self.has_next():
            self.raise_end()
        return self.take()

    async def has_next(self) -> bool:
        """Wait until a further result exists or the map has ended; return True if a further result exists."""
        await trio.lowlevel.checkpoint()
        while True:
            # Results after a task without an outcome are returned out of order.
            if self.over and self.unfinished:
                self.ordered = False
            if self.read in self.results if self.ordered else self.results:
                return True
            if self.over:
                return False
            await self.changed.wait()

    def take(self) -> Result[Task, T]:
        """Return the next result. Call this method only after `has_next` has returned True."""
        result = self.results.pop(self.read if self.ordered else next(iter(self.results)))
        self.read += 1
        self._notify()
        return result

    def raise_end(self) -> NoReturn:
        """Raise the exception that ended the map, or StopAsyncIteration if there was none."""
        raise_all(self.errors)
        if self.no_workers is not None:
            unfinished = tuple(self.unfinished.values())
            raise FleetLost(
                "the fleet has no worker left", unfinished=unfinished
            ) from self.no_workers.__cause__
        raise StopAsyncIteration

    def _notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
