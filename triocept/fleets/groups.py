"""Groups: several samples of one task, as GRPO compares them; a group may be stopped early.

Rules:

1. Each sample has exactly one outcome. A sample that is cancelled or never begins because its group was stopped is
   `Outcome.Stopped`.
2. A reader of groups gets each group once, whole, its results in the order of the samples. Only when the map itself
   ends early are groups incomplete; they are delivered then, before the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import msgspec
import trio

from .outcomes import Result

if TYPE_CHECKING:
    from .mapping import Mapping

Task = TypeVar("Task")
T = TypeVar("T")

StopGroup: TypeAlias = Callable[[tuple[Result[Any, Any], ...]], bool]
"""`(results so far, in the order of arrival) -> True to end the group now`."""


class Group(msgspec.Struct, Generic[Task, T], frozen=True, kw_only=True):
    """All samples of a task."""

    number: int
    """Index of the task among the tasks, from 0: `result.group` of its results."""
    task: Task
    """The task as passed to the map."""
    results: tuple[Result[Task, T], ...]
    """Results in the order of the samples."""
    complete: bool = True
    """False: the map ended before all samples had an outcome."""

    def __repr__(self) -> str:
        outcomes = ", ".join(type(result.outcome).__name__ for result in self.results)
        return f"<Group {self.number}: {outcomes}{'' if self.complete else ', and no more'}>"


@final
class Begun(Generic[Task]):
    """A task whose samples are being run."""

    def __init__(self, number: int, task: Task, size: int | None, stop: StopGroup | None) -> None:
        self.number = number
        self.task = task
        self.size = size
        """Number of samples; None: the map has no groups."""
        self._size = size or 1
        self._stop = stop
        self._samples = 0
        self._scopes: set[trio.CancelScope] = set()
        self._stopped = False
        self._results: list[Result[Any, Any]] = []

    def next_sample(self) -> int | None:
        """Return the index of the next sample; None if each sample has begun."""
        if self._samples == self._size:
            return None
        self._samples += 1
        return self._samples - 1

    def open_scope(self) -> trio.CancelScope:
        """Return the cancel scope of a sample: the end of the group cancels it."""
        scope = trio.CancelScope()
        if self._stopped:
            scope.cancel()
        else:
            self._scopes.add(scope)
        return scope

    def add(self, result: Result[Any, Any], scope: trio.CancelScope) -> None:
        """Add the result of a sample, and end the group if `stop` returns True."""
        self._scopes.discard(scope)
        if self._stop is None or self._stopped:
            return
        self._results.append(result)
        if len(self._results) < self._size and self._stop(tuple(self._results)):
            self._stopped = True
            self._results.clear()
            for other in self._scopes:
                other.cancel()


@final
class Groups(Generic[Task, T]):
    """The groups of a map, each once and whole: `async for group in results.groups()`."""

    def __init__(self, mapping: Mapping[Task, T], size: int) -> None:
        self._mapping = mapping
        self._size = size
        self._parts: dict[int, list[Result[Task, T]]] = {}
        """Groups with some results read, but not all."""

    def __aiter__(self) -> Groups[Task, T]:
        return self

    async def __anext__(self) -> Group[Task, T]:
        """Return the next group.

        Raises: as `anext(results)`; incomplete groups are returned before.

        Cancellation: no result is lost by it.
        """
        while await self._mapping.has_next():
            result = self._mapping.take()
            assert result.group is not None
            part = self._parts.setdefault(result.group, [])
            part.append(result)
            if len(part) == self._size:
                return self._taken(result.group, complete=True)
        if not self._parts:
            self._mapping.raise_end()
        return self._taken(min(self._parts), complete=False)

    def _taken(self, number: int, *, complete: bool) -> Group[Task, T]:
        results = sorted(self._parts.pop(number), key=lambda result: result.sample)
        return Group(number=number, task=results[0].task, results=tuple(results), complete=complete)
