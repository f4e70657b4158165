"""A map: one function over many tasks. Each task gets exactly one outcome, or the map's error lists the tasks without.

Rules:

1. A task is pulled when there is a slot for it, and no earlier.
2. The tasks of a worker that dies run again, apart from others: see `slots`. Only a task that ends its worker alone is
   lost. An exception of the function is an outcome; it is retried only if `retry_if` returns True.
3. The number of unread outcomes is bounded by the slots and by `prefetch`: a slow reader slows the tasks down.
4. The map ends with its last outcome.
5. Execution is at least once, delivery exactly once: a worker may die after a task has run, before its answer is sent.
6. With groups, these rules apply to each sample of a task.
7. A task with its outcome in the store is not run, and an outcome is stored before it is delivered. A group with some
   samples in the store is delivered whole, including the stored samples.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic, NoReturn, Protocol, TypeAlias, TypeVar, final

import msgspec
import trio

from .._util.failures import keeping, keeping_each, raise_all, text_of
from ..errors import FleetLost, StoreError
from .engine import WorkerLost
from .groups import Begun, Groups, StopGroup
from .outcomes import AnyOutcome, Outcome, Result
from .packing import Answer, Failure, Job, Packing
from .slots import NoWorkers, Seat, Slots
from .store.recording import Kept
from .store.store import MapStore, TaskStore
from .telling import Telling

Task = TypeVar("Task")
T = TypeVar("T")
Contra = TypeVar("Contra", contravariant=True)
Co = TypeVar("Co", covariant=True)

RetryIf: TypeAlias = Callable[[BaseException], bool]
"""`(error) -> True to retry`."""


class RolloutFunction(Protocol[Contra, Co]):
    """Function that a map calls for each task: importable, or a function of `__main__`."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int) -> Awaitable[Co]:
        """Run one task.

        Args:
            worker: the value that the fleet's `worker` opened: by default an `Endpoint`.
            task: one of the map's tasks.
            attempt: counted from 1. More than 1: a worker died with an earlier attempt, or `retry_if` retried it. Side
                effects of earlier attempts may have happened.
        """


class SampleFunction(Protocol[Contra, Co]):
    """Function that is called with the index of the sample in its group."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int, sample: int) -> Awaitable[Co]:
        """Run one sample of a task.

        Args:
            worker: as for a `RolloutFunction`.
            task: the same object or value for all samples.
            attempt: of this sample.
            sample: from 0 to `group_size` - 1; 0 if the map has no groups.
        """


class Call(msgspec.Struct, Generic[Task]):
    """State of a task, or of a sample of it."""

    order: int
    """Number of calls begun before this call."""
    number: int
    """Index among all tasks and samples, including those in the store."""
    group: Begun[Task]
    sample: int
    store: TaskStore | None
    attempt: int = 0
    worker: str = ""
    lost_with: tuple[tuple[object, int], ...] = ()
    """The calls in the first worker that was lost with this call."""
    ended_alone: int = 0
    """Number of workers that ended while this call ran alone in them."""

    @property
    def task(self) -> Task:
        return self.group.task

    @property
    def group_number(self) -> int | None:
        """Index of the task; None: the map has no groups."""
        return self.group.number if self.group.size is not None else None


@final
class Results(Generic[Task, T]):
    """The outcomes of a map, each once: `async for result in results`. Made by `Fleet.map` only."""

    def __init__(self, mapping: Mapping[Task, T]) -> None:
        self._mapping = mapping
        self._single = False
        self._groups: Groups[Task, T] | None = None

    def __aiter__(self) -> Results[Task, T]:
        return self

    async def __anext__(self) -> Result[Task, T]:
        """Return the next result.

        Raises:
            StopAsyncIteration: each task has had its outcome.
            FleetLost: no worker is left, and some tasks have no outcome.
            StoreError: a result could not be recorded, or two tasks have one key.
            OSError: the store could not be written.
            BaseException: the exception of the iterable of tasks; the tasks pulled before have had their outcomes.

        Cancellation: no outcome is lost by it.
        """
        if self._groups is not None:
            raise RuntimeError("the results of this map are read in groups: each comes once, in its own")
        result = await self._mapping.next_result()
        self._single = True
        return result

    @property
    def skipped(self) -> int:
        """Number of outcomes found in the store so far: they are not delivered again."""
        return self._mapping.skipped

    def groups(self) -> Groups[Task, T]:
        """Return the results in groups: `async for group in results.groups()`.

        Each `Group` is yielded when its last sample has its outcome; with `ordered=True`, in the order of the tasks.
        Results are read either in groups or one by one.

        Raises:
            RuntimeError: the map has no groups, or some of its results were read already.
        """
        if self._mapping.group_size is None:
            raise RuntimeError("this map has no groups: fleet.map(…, group_size=8)")
        if self._single:
            raise RuntimeError(
                "some results of this map were read already; their groups would never be whole"
            )
        if self._groups is None:
            self._groups = Groups(self._mapping, self._mapping.group_size)
        return self._groups


@final
class Mapping(Generic[Task, T]):
    """A running map."""

    def __init__(
        self,
        function: bytes,
        tasks: Iterable[Task] | AsyncIterable[Task],
        slots: Slots,
        packing: Packing,
        *,
        ordered: bool,
        retries: int,
        retry_if: RetryIf | None,
        priority: int,
        group_size: int | None,
        stop_group: StopGroup | None,
        tells_sample: bool,
        timeout: float | None,
        grace: float,
        prefetch: int,
        store: MapStore | None,
        telling: Telling,
    ) -> None:
        self._function = function
        self._tasks = _as_async(tasks)
        self._awaits_tasks = isinstance(tasks, AsyncIterable)
        self._slots = slots
        self._packing = packing
        self._ordered = ordered
        self._retries = retries
        self._retry_if = retry_if
        self._priority = priority
        self.group_size = group_size
        self._stop_group = stop_group
        self._tells_sample = tells_sample
        self._timeout = timeout
        self._grace = grace
        self._prefetch = prefetch
        self._store = store
        self._telling = telling
        self.skipped: int = 0
        self._begun: Begun[Task] | None = None
        """The task that was pulled last."""
        self._task_store: TaskStore | None = None
        """Store entry of the task that was pulled last."""
        self._lost_before: deque[tuple[int, Task, TaskStore]] = deque()
        """Tasks that were lost in an earlier run with the store; they run last."""
        self._tasks_pulled = 0
        self._results: dict[int, Result[Task, T]] = {}
        """Unread results, by their order."""
        self._pulled = 0
        self._read = 0
        self._unfinished: dict[int, Task] = {}
        self._why: NoWorkers | None = None
        self._errors: list[BaseException] = []
        self._over = False
        self._news = trio.Event()

    def open(self) -> None:
        """Open the store; raise StoreError if another map uses it."""
        if self._store is not None:
            self._store.open()

    async def run(self) -> None:
        """Run each task to its outcome."""
        errors: list[BaseException] = []
        self._telling.map_started()
        try:
            # An exception of `retry_if` or `stop_group` ends the map, whatever its reader does.
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    with keeping(self._errors):
                        await self._pull(nursery)
        finally:
            self._over = True
            self._telling.map_ended()
            self._tell()
            if self._store is not None:
                self._store.close()
            if isinstance(self._tasks, AsyncGenerator):
                await self._tasks.aclose()
        raise_all(errors)

    async def _pull(self, nursery: trio.Nursery) -> None:
        """Begin tasks one by one, when there is a slot."""
        while True:
            while self._pulled - self._read > self._window and self._why is None:
                await self._news_after()
            if self._why is not None:
                return
            try:
                call, seat = await self._next_call()
            except NoWorkers as exc:
                self._give_up(exc, self._begun)
                return
            except StopAsyncIteration:
                return
            if call.store is not None and call.store.is_done(call.sample):
                self._telling.skipped(call.group.number, 1)
                self._add(call, self._stored(call, call.store), call.group.open_scope())
                self._slots.give_back(seat)
            else:
                seat.call = self, call.number
                nursery.start_soon(self._run, call, seat, nursery)

    def _stored(self, call: Call[Task], store: TaskStore) -> Result[Task, T]:
        """Return the stored result of a sample; its task may have had another index then, and no group."""
        return msgspec.structs.replace(
            store.stored(call.task, call.sample),
            number=call.number,
            group=None if self.group_size is None else call.group.number,
        )

    async def _next_call(self) -> tuple[Call[Task], Seat]:
        """Return the next sample of the current task, or the first of the next task, and its slot.

        The slot is taken first: otherwise a waiting call of another map would get it. No slot is held while async tasks
        are awaited.
        """
        seat = await self._slots.take(self._priority)  # the task is pulled only now
        if self._awaits_tasks:
            self._slots.give_back(seat)
            sample = await self._next_sample()
            seat = await self._slots.take(self._priority)
        else:
            try:
                sample = await self._next_sample()
            except BaseException:
                self._slots.give_back(seat)
                raise
        begun = self._begun
        assert begun is not None
        self._pulled += 1
        number = begun.number * (self.group_size or 1) + sample
        return Call(self._pulled - 1, number, begun, sample, self._task_store), seat

    async def _next_sample(self) -> int:
        """Return the next sample of the current task, or of the next task that has any."""
        while self._begun is None or (sample := self._begun.next_sample()) is None:
            self._begun = await self._next_task()
        return sample

    async def _next_task(self) -> Begun[Task] | None:
        """Return the next task; None if the store has all its outcomes, or it is postponed."""
        try:
            task = await anext(self._tasks)
        except StopAsyncIteration:
            if not self._lost_before:
                raise
            number, task, self._task_store = self._lost_before.popleft()
            return Begun(number, task, self.group_size, self._stop_group)
        number, size = self._tasks_pulled, self.group_size or 1
        self._tasks_pulled += 1
        if self._store is not None:
            self._task_store = self._store.task(number, task)
            if all(self._task_store.is_done(sample) for sample in range(size)):
                self.skipped += size
                self._telling.skipped(number, size)
                await trio.lowlevel.checkpoint()
                return None
            if self._task_store.was_lost(size) and not (self._ordered or self._awaits_tasks):
                self._lost_before.append((number, task, self._task_store))
                await trio.lowlevel.checkpoint()
                return None
        return Begun(number, task, self.group_size, self._stop_group)

    def _give_up(self, why: NoWorkers, begun: Begun[Task] | None) -> None:
        """Record that no worker is left: this task will not have all its outcomes."""
        self._why = why
        if begun is not None:
            self._unfinished[begun.number] = begun.task

    @property
    def _window(self) -> int:
        """Maximum calls begun and not read; in order, a slow task keeps later outcomes from being read."""
        return self._slots.total * (2 if self._ordered else 1) + self._prefetch

    async def _run(self, call: Call[Task], seat: Seat, nursery: trio.Nursery) -> None:
        outcome: AnyOutcome[T] = Outcome.Stopped()
        answer = Answer()
        scope = call.group.open_scope()
        try:
            with scope:
                outcome, answer = await self._tried(call, seat)
        except NoWorkers as exc:
            self._give_up(exc, call.group)
        else:
            try:
                result = self._kept(call, self._result(call, outcome, answer), answer)
                self._telling.ended(call, result, answer.spent)
                self._add(call, result, scope)
            except (StoreError, OSError) as exc:  # tasks that cannot be stored need not run
                if not self._errors:  # a full disk is one error, however many calls meet it
                    self._errors.append(exc)
                nursery.cancel_scope.cancel()
        self._tell()

    def _kept(self, call: Call[Task], result: Result[Task, T], answer: Answer) -> Result[Task, T]:
        return result if call.store is None else call.store.kept(result, answer.kept)

    def _add(self, call: Call[Task], result: Result[Task, T], scope: trio.CancelScope) -> None:
        """Add the result of a call."""
        self._results[call.order] = result
        self._tell()
        call.group.add(result, scope)

    async def _tried(self, call: Call[Task], seat: Seat) -> tuple[AnyOutcome[T], Answer]:
        retried = 0
        try:
            while True:
                await trio.lowlevel.checkpoint_if_cancelled()  # the group may have been stopped
                worker = seat.worker
                call.attempt, call.worker = call.attempt + 1, worker.name
                self._telling.started(call)
                try:
                    packed = await worker.call(self._job(call))
                except WorkerLost as lost:
                    self._slots.lost(seat, worker_lives=lost.worker_lives)
                    call.lost_with = call.lost_with or seat.lost_with
                    call.ended_alone += len(seat.lost_with) == 1
                    if call.ended_alone > self._retries:
                        return self._lost(call, lost), Answer()
                    self._telling.requeued(call, lost.reason)
                except TypeError as exc:  # a task that cannot be sent
                    return Outcome.Error(exc), Answer()
                else:
                    answer = self._answer(packed)
                    if answer.runs_on:
                        self._slots.end_worker_of(seat)
                        worker.reason = (
                            f"task {call.number} did not end within {self._grace:g} s of its timeout"
                        )
                        await worker.kill()
                    outcome, again = self._outcome(answer)
                    if not again or retried == self._retries:
                        return outcome, answer
                    assert isinstance(outcome, Outcome.Error)
                    retried += 1
                    self._telling.retried(call, outcome.error)
                    self._slots.give_back(seat)
                await self._slots.retake(seat)
        finally:
            self._slots.give_back(seat)

    def _lost(self, call: Call[Task], lost: WorkerLost) -> Outcome.Lost:
        beside = sorted({number for owner, number in call.lost_with if owner is self} - {call.number})
        return Outcome.Lost(f"{lost.reason}, while no other task ran in it", tuple(beside))

    def _job(self, call: Call[Task]) -> bytes:
        record = None if call.store is None else call.store.record_to(call.sample, call.attempt, call.worker)
        job = Job(
            self._function,
            call.task,
            call.attempt,
            call.sample if self._tells_sample else None,
            self._timeout,
            self._grace,
            record,
        )
        return self._packing.pack(job, f"task {call.group.number} ({type(call.task).__name__})")

    def _answer(self, packed: bytes) -> Answer:
        try:
            answer: Answer = self._packing.unpack(packed)
        except (Exception, SystemExit) as exc:  # any code may run while parts of the answer are unpickled
            error = TypeError(
                "what came of the function cannot be made again in this process: "
                f"{type(exc).__name__}: {text_of(exc)}"
            )
            text = "".join(traceback.format_exception(exc))
            return Answer(failure=Failure(error, text), kept=None if self._store is None else Kept())
        return answer

    def _result(self, call: Call[Task], outcome: AnyOutcome[T], answer: Answer) -> Result[Task, T]:
        return Result(
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

    def _outcome(self, answer: Answer) -> tuple[AnyOutcome[T], bool]:
        """Return the outcome, and True if the call is to be retried."""
        failure = answer.failure
        if failure is None:
            return Outcome.Value(answer.value), False
        again = self._retry_if is not None and self._retry_if(failure.error)
        return Outcome.Error(failure.error, failure.traceback), again

    async def next_result(self) -> Result[Task, T]:
        """Return the next result, or raise the end of the map."""
        if not await self.has_next():
            self.raise_end()
        return self.take()

    async def has_next(self) -> bool:
        """Wait until another result exists or the map has ended; return True if one exists."""
        await trio.lowlevel.checkpoint()
        while not self._ready():
            if self._over:
                return False
            await self._news_after()
        return True

    def take(self) -> Result[Task, T]:
        """Return the next result, which must exist."""
        number = self._read if self._ordered else next(iter(self._results))
        result = self._results.pop(number)
        self._read += 1
        self._tell()
        return result

    def _ready(self) -> bool:
        """Return True if a result can be read; behind a task without an outcome, order is given up."""
        if self._over and self._unfinished:
            self._ordered = False
        return self._read in self._results if self._ordered else bool(self._results)

    def raise_end(self) -> NoReturn:
        """Raise the exception that ended the map."""
        raise_all(self._errors)
        if self._why is not None:
            raise FleetLost(
                "no worker is left", unfinished=tuple(self._unfinished.values())
            ) from self._why.__cause__
        raise StopAsyncIteration

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _news_after(self) -> None:
        await self._news.wait()


async def _each(tasks: Iterable[Task]) -> AsyncIterator[Task]:
    for task in tasks:
        yield task


def _as_async(tasks: Iterable[Task] | AsyncIterable[Task]) -> AsyncIterator[Task]:
    if isinstance(tasks, AsyncIterable):
        return aiter(tasks)
    return _each(tasks)
