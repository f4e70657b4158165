"""One function over many tasks: each gets exactly one outcome, or the map says which have none.

Rules:

1. A task is pulled when there is a slot for it, and no earlier.
2. A worker that dies costs its tasks an attempt: they run again elsewhere. What a function raises is its outcome, and
   is not tried again unless `retry_if` says so.
3. What nobody has read yet is bounded by the slots: who reads slowly slows the tasks down.
4. The map ends with its last outcome.
5. Execution is at least once, delivery exactly once: a worker may die when a task has run, and its answer has not left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

import msgspec
import trio

from .._failures import keeping, raise_all
from ..errors import FleetLost
from .engine import WorkerLost
from .outcomes import Error, Lost, Outcome, Result, Value
from .packing import Answer, Job, Packing
from .slots import NoWorkers, Slots

__all__ = ["Mapping", "Results", "RetryIf", "RolloutFunction"]

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
            attempt: from 1; more where a worker died with an earlier one, whose side effects may have happened.
        """


class Call(msgspec.Struct, Generic[Task], frozen=True):
    """A task, and its place."""

    number: int
    task: Task


@final
class Results(Generic[Task, T]):
    """The outcomes of a map, each once: `async for result in results`. Made by `Fleet.map` only."""

    def __init__(self, mapping: Mapping[Task, T]) -> None:
        self._mapping = mapping

    def __aiter__(self) -> Results[Task, T]:
        return self

    async def __anext__(self) -> Result[Task, T]:
        """The next one.

        Raises:
            StopAsyncIteration: each task has had its outcome.
            FleetLost: no worker is left, and some have none.
            BaseException: what the iterable of tasks raised; those that it gave before have had theirs.

        Cancellation: no outcome is lost by it.
        """
        return await self._mapping.next_result()


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
    ) -> None:
        self._function = function
        self._tasks = _as_async(tasks)
        self._slots = slots
        self._packing = packing
        self._ordered = ordered
        self._retries = retries
        self._retry_if = retry_if
        self._priority = priority
        self._results: dict[int, Result[Task, T]] = {}
        """Those that nobody has read, by their number."""
        self._pulled = 0
        self._read = 0
        self._unfinished: list[Task] = []
        self._why: NoWorkers | None = None
        self._errors: list[BaseException] = []
        self._over = False
        self._news = trio.Event()

    async def run(self) -> None:
        """Run each task to its outcome."""
        try:
            async with trio.open_nursery() as nursery:
                with keeping(self._errors):
                    await self._pull(nursery)
        finally:
            self._over = True
            self._tell()
            if isinstance(self._tasks, AsyncGenerator):
                await self._tasks.aclose()

    async def _pull(self, nursery: trio.Nursery) -> None:
        """Begin one task after the other, while there is a slot for it."""
        while True:
            while self._pulled - self._read >= self._window and self._why is None:
                await self._news_after()
            if self._why is not None:
                return
            try:
                async with self._slots.taken(self._priority):
                    pass  # there is one: only now is a task pulled
                task = await anext(self._tasks)
            except NoWorkers as exc:
                self._why = exc
                return
            except StopAsyncIteration:
                return
            call = Call(self._pulled, task)
            self._pulled += 1
            nursery.start_soon(self._run, call)

    @property
    def _window(self) -> int:
        """How many may have begun and not been read; in order, one that takes long keeps others from being read."""
        return self._slots.total * (2 if self._ordered else 1)

    async def _run(self, call: Call[Task]) -> None:
        try:
            result = await self._tried(call)
        except NoWorkers as exc:
            self._unfinished.append(call.task)
            self._why = exc
        else:
            self._results[call.number] = result
        self._tell()

    async def _tried(self, call: Call[Task]) -> Result[Task, T]:
        for attempt in range(1, self._retries + 2):
            last = attempt > self._retries
            priority = self._priority if attempt == 1 else self._priority + 1  # it has waited long enough
            async with self._slots.taken(priority) as worker:
                try:
                    job = Job(self._function, call.task, attempt)
                    data = self._packing.pack(job, f"task {call.number}, {call.task!r:.80}")
                    answer: Answer = self._packing.unpack(await worker.call(data))
                except WorkerLost as lost:
                    outcome: Outcome[T] = Lost(lost.reason)
                    answer = Answer()
                    again = True
                except TypeError as exc:  # a task that cannot be sent
                    outcome, answer, again = Error(exc), Answer(), False
                else:
                    outcome, again = self._outcome(answer)
            if last or not again:
                break
        return Result(
            task=call.task,
            number=call.number,
            attempt=attempt,
            worker=worker.name,
            outcome=outcome,
            traces=answer.traces,
        )

    def _outcome(self, answer: Answer) -> tuple[Outcome[T], bool]:
        """And whether to try again."""
        failure = answer.failure
        if failure is None:
            return Value(answer.value), False
        again = self._retry_if is not None and self._retry_if(failure.error)
        return Error(failure.error, failure.traceback), again

    async def next_result(self) -> Result[Task, T]:
        """The next outcome, or how the map ended."""
        await trio.lowlevel.checkpoint()
        while not self._ready():
            if self._over:
                self._raise_end()
            await self._news_after()
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

    def _raise_end(self) -> None:
        raise_all(self._errors)
        if self._why is not None:
            raise FleetLost("no worker is left", unfinished=tuple(self._unfinished)) from self._why.__cause__
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
