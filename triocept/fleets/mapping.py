"""One function over many tasks: each gets exactly one outcome, or the map says which have none.

Rules:

1. A task is pulled when there is a slot for it, and no earlier.
2. The tasks of a worker that dies run again, apart from others: see `slots`. Only a task that ends its worker alone is
   lost. An exception of the function is an outcome; it is retried only if `retry_if` returns True.
3. The number of unread outcomes is bounded by the slots and by `prefetch`: a slow reader slows the tasks down.
4. The map ends with its last outcome.
5. Execution is at least once, delivery exactly once: a worker may die when a task has run, and its answer has not left.
6. With groups, all of that is said of each sample of a task.
7. What its store has is not run, and what has its outcome is in there before anybody is given it. A group of which the
   store has some is given whole, those from the store.
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
"""`(error) -> whether to try again`."""


class RolloutFunction(Protocol[Contra, Co]):
    """What a map calls for each task: importable, or a function of `__main__`."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int) -> Awaitable[Co]:
        """Do one task.

        Args:
            worker: what the fleet's `worker` opened: an `Endpoint`, unless said otherwise.
            task: one of those that the map was given.
            attempt: counted from 1. More than 1: a worker died with an earlier attempt, or `retry_if` retried it. Side
                effects of earlier attempts may have happened.
        """


class SampleFunction(Protocol[Contra, Co]):
    """A function that is told which sample of its group it is."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int, sample: int) -> Awaitable[Co]:
        """Do one sample of a task.

        Args:
            worker: as for a `RolloutFunction`.
            task: the same for all samples.
            attempt: of this sample.
            sample: from 0 to `group_size` - 1; 0 where the map has no groups.
        """


class Call(msgspec.Struct, Generic[Task]):
    """A task, or a sample of it, and how far that is."""

    order: int
    """How many were begun before."""
    number: int
    """Its place among all, also those that the store has."""
    group: Begun[Task]
    sample: int
    store: TaskStore | None
    attempt: int = 0
    worker: str = ""
    lost_with: tuple[tuple[object, int], ...] = ()
    """The calls in the first worker that was lost with this one."""
    ended_alone: int = 0
    """How many workers ended while it ran alone in them."""

    @property
    def task(self) -> Task:
        return self.group.task

    @property
    def group_number(self) -> int | None:
        """None: the map has no groups."""
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
        """The next one.

        Raises:
            StopAsyncIteration: each task has had its outcome.
            FleetLost: no worker is left, and some have none.
            StoreError: something could not be recorded, or two tasks have one key. Likewise an `OSError` of the store.
            BaseException: what the iterable of tasks raised; those that it gave before have had theirs.

        Cancellation: no outcome is lost by it.
        """
        if self._groups is not None:
            raise RuntimeError("the results of this map are read in groups: each comes once, in its own")
        result = await self._mapping.next_result()
        self._single = True
        return result

    @property
    def skipped(self) -> int:
        """How many of the outcomes the store had, so far: they are not given again."""
        return self._mapping.skipped

    def groups(self) -> Groups[Task, T]:
        """The same in groups: `async for group in results.groups()` gives each `Group` when its last sample has its
        outcome; with `ordered=True`, in the order of the tasks. They are read in one way or in the other.

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
    """A map at work."""

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
        self._prefetch = prefetch
        self._store = store
        self._telling = telling
        self.skipped: int = 0
        self._begun: Begun[Task] | None = None
        """The task that was pulled last."""
        self._task_store: TaskStore | None = None
        """What the store says of it."""
        self._lost_before: deque[tuple[int, Task, TaskStore]] = deque()
        """Tasks that were lost in an earlier run with the store, their turn is last."""
        self._tasks_pulled = 0
        self._results: dict[int, Result[Task, T]] = {}
        """Those that nobody has read, by their order."""
        self._pulled = 0
        self._read = 0
        self._unfinished: dict[int, Task] = {}
        self._why: NoWorkers | None = None
        self._errors: list[BaseException] = []
        self._over = False
        self._news = trio.Event()

    def open(self) -> None:
        """Take the store; StoreError: another map has it."""
        if self._store is not None:
            self._store.open()

    async def run(self) -> None:
        """Run each task to its outcome."""
        errors: list[BaseException] = []
        self._telling.map_started()
        try:
            # What `retry_if` and `stop_group` raise is the end of the map, whatever its reader does.
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
        """Begin one task after the other, while there is a slot for it."""
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
        """What the store has of a sample; its task may have stood elsewhere then, and have had no group."""
        return msgspec.structs.replace(
            store.stored(call.task, call.sample),
            number=call.number,
            group=None if self.group_size is None else call.group.number,
        )

    async def _next_call(self) -> tuple[Call[Task], Seat]:
        """The next sample of the task that has begun, or the first one of the next task; and its slot, which is had
        before: or another map's call that waits would get it. No slot is kept while tasks are awaited."""
        seat = await self._slots.take(self._priority)  # only now is a task pulled
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
        """That of the task which has begun, or of the next one that has any."""
        while self._begun is None or (sample := self._begun.next_sample()) is None:
            self._begun = await self._next_task()
        return sample

    async def _next_task(self) -> Begun[Task] | None:
        """The next one; None: the store has all its outcomes, or its turn is last."""
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
        """No worker is left: this task will not have all its outcomes."""
        self._why = why
        if begun is not None:
            self._unfinished[begun.number] = begun.task

    @property
    def _window(self) -> int:
        """How many may have begun and not been read; in order, one that takes long keeps others from being read."""
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
            except (StoreError, OSError) as exc:  # what cannot be kept need not run
                if not self._errors:  # a full disk is one error, however many calls meet it
                    self._errors.append(exc)
                nursery.cancel_scope.cancel()
        self._tell()

    def _kept(self, call: Call[Task], result: Result[Task, T], answer: Answer) -> Result[Task, T]:
        return result if call.store is None else call.store.kept(result, answer.kept)

    def _add(self, call: Call[Task], result: Result[Task, T], scope: trio.CancelScope) -> None:
        """It has its outcome."""
        self._results[call.order] = result
        self._tell()
        call.group.add(result, scope)

    async def _tried(self, call: Call[Task], seat: Seat) -> tuple[AnyOutcome[T], Answer]:
        retried = 0
        try:
            while True:
                await trio.lowlevel.checkpoint_if_cancelled()  # its group may have been stopped
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
            record,
        )
        return self._packing.pack(job, f"task {call.group.number} ({type(call.task).__name__})")

    def _answer(self, packed: bytes) -> Answer:
        try:
            answer: Answer = self._packing.unpack(packed)
        except (Exception, SystemExit) as exc:  # whatever is done where one of its parts is made again
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
        """And whether to try again."""
        failure = answer.failure
        if failure is None:
            return Outcome.Value(answer.value), False
        again = self._retry_if is not None and self._retry_if(failure.error)
        return Outcome.Error(failure.error, failure.traceback), again

    async def next_result(self) -> Result[Task, T]:
        """The next outcome, or how the map ended."""
        if not await self.has_next():
            self.raise_end()
        return self.take()

    async def has_next(self) -> bool:
        """Whether there is one to be read, once that is known."""
        await trio.lowlevel.checkpoint()
        while not self._ready():
            if self._over:
                return False
            await self._news_after()
        return True

    def take(self) -> Result[Task, T]:
        """The next outcome, which is there."""
        number = self._read if self._ordered else next(iter(self._results))
        result = self._results.pop(number)
        self._read += 1
        self._tell()
        return result

    def _ready(self) -> bool:
        """Whether there is one to be read; behind one that has none, order is no more."""
        if self._over and self._unfinished:
            self._ordered = False
        return self._read in self._results if self._ordered else bool(self._results)

    def raise_end(self) -> NoReturn:
        """Raise how the map ended."""
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
