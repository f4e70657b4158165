"""What was read last time, so as not to read it again.

An agent sends its whole conversation with every call, and most of it is what it sent before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from .content import Json

__all__ = ["Memory"]

T = TypeVar("T")


class Memory:
    """The wire items of the latest call, and what they were read into.

    Holds one call's items for each use, no more. What is read out of an item must depend on the item alone, and be
    immutable: it is given out again.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], tuple[Sequence[Json], Sequence[object]]] = {}

    def read(
        self, dialect: str, field: str, items: Sequence[Json], parse: Callable[[Json, str], T]
    ) -> tuple[T, ...]:
        """The items, parsed; those that stand where they stood last time are not parsed again.

        Args:
            dialect: in which they are.
            field: of the document, that holds them.
            items: the list as it came. It is kept, and must not be changed afterwards.
            parse: takes an item and its path.
        """
        old, made = self._latest.get((dialect, field), ([], ()))
        same = _same(items, old)
        new = [parse(items[number], f"{field}[{number}]") for number in range(same, len(items))]
        parsed = (*made[:same], *new)
        self._latest[dialect, field] = (items, parsed)
        return parsed  # type: ignore[return-value]


def _same(items: Sequence[Json], old: Sequence[Json]) -> int:
    """How many items at the head are equal."""
    if items[: len(old)] == old:  # nearly always, and many times as fast
        return len(old)
    same = 0
    for item, was in zip(items, old, strict=False):
        if item != was:
            break
        same += 1
    return same
