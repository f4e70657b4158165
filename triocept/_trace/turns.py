"""The turns of a trace, as a list that only grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from .turn import Turn


class Turns(Sequence[Turn]):
    """Sequence of the turns of a trace, in order.

    A turn that was read from a file is made on first use: each holds its whole conversation, so all of a long one take
    time and memory with the square of its length.
    """

    def __init__(self) -> None:
        self._turns: list[Turn | Callable[[], Turn]] = []

    def append(self, turn: Turn | Callable[[], Turn]) -> None:
        """Add a turn, or a function that makes it."""
        self._turns.append(turn)

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, at: int) -> Turn: ...
    @overload
    def __getitem__(self, at: slice) -> list[Turn]: ...

    def __getitem__(self, at: int | slice) -> Turn | list[Turn]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        turn = self._turns[at]
        if not isinstance(turn, Turn):
            turn = self._turns[at] = turn()
        return turn
