"""Groups of samples. Algorithms such as GRPO compare several samples of one task, which together are a group.

Rules:

1. Each sample has exactly one outcome. If a group is stopped early, its running samples are cancelled, and its waiting
   samples never begin. The outcome of all these samples is `Outcome.Stopped`.
2. Each group is yielded once and complete, with its results in the order of the samples. If the map ends early, groups
   may be incomplete; they are yielded before the error is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import msgspec

from .outcomes import Result

if TYPE_CHECKING:
    from .mapping import Mapping

Task = TypeVar("Task")
T = TypeVar("T")

StopGroup: TypeAlias = Callable[[tuple[Result[Any, Any], ...]], bool]
"""`(results so far, in the order of their arrival) -> True` if the group should end now."""


class Group(msgspec.Struct, Generic[Task, T], frozen=True, kw_only=True):
    """A task, with the results of all its samples."""

    number: int
    """Index of the task among all tasks, from 0, as in `result.group`."""
    task: Task
    """The task, as it was passed to the map."""
    results: tuple[Result[Task, T], ...]
    """Results of the samples, in the order of the samples."""
    complete: bool = True
    """False if the map ended before all samples had an outcome."""

    def __repr__(self) -> str:
        outcomes = ", ".join(type(result.outcome).__name__ for result in self.results)
        return f"<Group {self.number}: {outcomes}{'' if self.complete else '; incomplete'}>"


@final
class Groups(Generic[Task, T]):
    """The groups of a map, each yielded once and complete: `async for group in results.groups()`."""

    def __init__(self, mapping: Mapping[Task, T], size: int) -> None:
        self._mapping = mapping
        self._size = size
        self._parts: dict[int, list[Result[Task, T]]] = {}
        """By the number of each incomplete group: the results of its samples that the map has returned so far."""

    def __aiter__(self) -> Groups[Task, T]:
        return self

    async def __anext__(self) -> Group[Task, T]:
        """Return the next group.

        For errors see `Results.__anext__`. Incomplete groups are returned before an error is raised.

        Cancellation: no result is lost; the next call of this method returns it.
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
