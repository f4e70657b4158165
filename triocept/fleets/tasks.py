"""Read the tasks of a map one by one from their iterable, and return the samples of these tasks.

A task whose outcome is in the store is skipped. A task whose outcome in an earlier run with this store was `Lost` is
read after all other tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Generic, TypeVar, final

import msgspec
import trio

from .groups import StopGroup
from .outcomes import Result
from .store.store import MapStore, TaskStore

Task = TypeVar("Task")


@final
class Begun(Generic[Task]):
    """State of a task of which at least one sample has begun to run."""

    def __init__(self, number: int, task: Task, size: int | None, stop: StopGroup | None) -> None:
        self.number = number
        self.task = task
        self.size = size
        """Number of samples of the task; None if the map has no groups."""
        self._size = size or 1
        self._stop = stop
        self._samples = 0
        self._scopes: set[trio.CancelScope] = set()
        self._stopped = False
        self._results: list[Result[Any, Any]] = []

    def next_sample(self) -> int | None:
        if self._samples == self._size:
            return None
        self._samples += 1
        return self._samples - 1

    def open_scope(self) -> trio.CancelScope:
        """Return a new cancel scope for a sample. The scope is cancelled when the group is stopped."""
        scope = trio.CancelScope()
        if self._stopped:
            scope.cancel()
        else:
            self._scopes.add(scope)
        return scope

    def add(self, result: Result[Any, Any], scope: trio.CancelScope) -> None:
        """Add the result of a sample. If the map's function `stop_group` then returns True, stop the group."""
        self._scopes.discard(scope)
        if self._stop is None or self._stopped:
            return
        self._results.append(result)
        if len(self._results) < self._size and self._stop(tuple(self._results)):
            self._stopped = True
            self._results.clear()
            for other in self._scopes:
                other.cancel()


class Call(msgspec.Struct, Generic[Task]):
    """State of a running task, or of a running sample of a task."""

    order: int
    """Number of calls of the map that began before this call. With `ordered`, the results are sorted by this number."""
    number: int
    """Index of the task, or of the sample, among all tasks or samples of the map, including those in the store."""
    group: Begun[Task]
    sample: int
    store: TaskStore | None
    attempt: int = 0
    worker: str = ""
    lost_with: tuple[tuple[object, int], ...] = ()
    """All calls that ran in the first worker that was lost while this call ran in it, including this call."""
    ended_alone: int = 0
    """Number of workers that were lost while no other call ran in them."""

    @property
    def task(self) -> Task:
        return self.group.task

    @property
    def group_number(self) -> int | None:
        """Index of the task; None if the map has no groups."""
        return self.group.number if self.group.size is not None else None


@final
class TaskSource(Generic[Task]):
    """The samples of a map's tasks, in the order of the tasks. For the options see `Fleet.map`.

    Args:
        ordered: if True, the tasks are read in their order, even if some of them were lost in an earlier run.
        on_skipped: called for each task whose outcomes are all in the store, with the task's index and the number of
            these outcomes.
    """

    def __init__(
        self,
        tasks: Iterable[Task] | AsyncIterable[Task],
        group_size: int | None,
        stop_group: StopGroup | None,
        store: MapStore | None,
        *,
        ordered: bool,
        on_skipped: Callable[[int, int], None],
    ) -> None:
        self.is_async: bool = isinstance(tasks, AsyncIterable)
        self._tasks: AsyncIterator[Task] = (
            aiter(tasks) if isinstance(tasks, AsyncIterable) else _as_async(tasks)
        )
        self._group_size = group_size
        self._stop_group = stop_group
        self._store = store
        self._postpones = not (ordered or self.is_async)
        self._on_skipped = on_skipped
        self.begun: Begun[Task] | None = None
        """The task that was read last."""
        self._task_store: TaskStore | None = None
        """Entry of the task `begun` in the store."""
        self._lost_before: deque[tuple[int, Task, TaskStore]] = deque()
        """Tasks whose outcome in an earlier run with the store was `Lost`. These tasks are returned after all other
        tasks.
        """
        self._tasks_pulled = 0
        self.calls: int = 0
        """Number of calls that `next_call` has returned."""
        self.skipped: int = 0
        """Number of outcomes of tasks that were skipped, because the store had all their outcomes."""

    async def next_call(self) -> Call[Task]:
        """Return the next sample of the current task; if there is no further sample, the first sample of the next task.

        Raise StopAsyncIteration if there is no further task.
        """
        while self.begun is None or (sample := self.begun.next_sample()) is None:
            self.begun = await self._next_task()
        self.calls += 1
        number = self.begun.number * (self._group_size or 1) + sample
        return Call(self.calls - 1, number, self.begun, sample, self._task_store)

    async def _next_task(self) -> Begun[Task] | None:
        """Read the next task and return it. Return None if the store has its outcomes, or if it must be run last."""
        try:
            task = await anext(self._tasks)
        except StopAsyncIteration:
            if not self._lost_before:
                raise
            number, task, self._task_store = self._lost_before.popleft()
            return Begun(number, task, self._group_size, self._stop_group)
        number, size = self._tasks_pulled, self._group_size or 1
        self._tasks_pulled += 1
        if self._store is not None:
            self._task_store = self._store.task(number, task)
            if all(self._task_store.is_done(sample) for sample in range(size)):
                self.skipped += size
                self._on_skipped(number, size)
                await trio.lowlevel.checkpoint()
                return None
            if self._postpones and self._task_store.was_lost(size):
                self._lost_before.append((number, task, self._task_store))
                await trio.lowlevel.checkpoint()
                return None
        return Begun(number, task, self._group_size, self._stop_group)

    async def aclose(self) -> None:
        """Close the iterator of the tasks if it is a generator; other iterators cannot be closed."""
        if isinstance(self._tasks, AsyncGenerator):
            await self._tasks.aclose()


async def _as_async(tasks: Iterable[Task]) -> AsyncIterator[Task]:
    for task in tasks:
        yield task
