"""Groups: several samples of one task, as GRPO compares them; a group may be stopped early.

Rules:

1. Each sample has exactly one outcome. One that its group's end cancels, or keeps from beginning, is `Outcome.Stopped`.
2. Whoever reads groups gets each once, whole, its results in the order of the samples. Only when the map itself ends
   early does a group lack some; it comes then, before the error.
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
"""`(results so far, in the order of their coming) -> whether the group is to end now`."""


class Group(msgspec.Struct, Generic[Task, T], frozen=True, kw_only=True):
    """All samples of a task."""

    number: int
    """The place of its task among the tasks, from 0: `result.group` of its results."""
    task: Task
    """As it was given."""
    results: tuple[Result[Task, T], ...]
    """In the order of the samples."""
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
        """None: the map has no groups."""
        self._size = size or 1
        self._stop = stop
        self._samples = 0
        self._scopes: set[trio.CancelScope] = set()
        self._stopped = False
        self._results: list[Result[Any, Any]] = []

    def next_sample(self) -> int | None:
        """The number of the one that begins now; None: each has begun."""
        if self._samples == self._size:
            return None
        self._samples += 1
        return self._samples - 1

    def open_scope(self) -> trio.CancelScope:
        """What a sample runs in: the group's end cancels it."""
        scope = trio.CancelScope()
        if self._stopped:
            scope.cancel()
        else:
            self._scopes.add(scope)
        return scope

    def add(self, result: Result[Any, Any], scope: trio.CancelScope) -> None:
        """A sample has its outcome: see whether that is the end of the others."""
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
        """Those of which a result has been read, and not all."""

    def __aiter__(self) -> Groups[Task, T]:
        return self

    async def __anext__(self) -> Group[Task, T]:
        """The next one.

        Raises: as `anext(results)`; groups that lack results then have come before.

        Cancellation: nothing is lost by it.
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
