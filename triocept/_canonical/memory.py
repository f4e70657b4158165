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
        self._latest: dict[str, tuple[Sequence[Json], Sequence[object]]] = {}

    def read(
        self, use: str, items: Sequence[tuple[str, Json]], parse: Callable[[Json, str], T]
    ) -> tuple[T, ...]:
        """The items, parsed; those that stand where they stood last time are not parsed again.

        Args:
            use: what they are, and in which dialect.
            items: each behind its path.
            parse: takes an item and its path.
        """
        old, made = self._latest.get(use, ((), ()))
        wires = [item for _, item in items]
        same = 0
        for wire, was in zip(wires, old, strict=False):
            if wire != was:
                break
            same += 1
        parsed = (*made[:same], *(parse(item, path) for path, item in items[same:]))
        self._latest[use] = (wires, parsed)
        return parsed  # type: ignore[return-value]
