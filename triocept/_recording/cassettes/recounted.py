"""The pieces of an answer out of which keys were taken: how long each is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..._canonical.response import ResponsePart
from ..._trace.increments import Increments
from ..._util.secrets import MARK
from ..pieces import text_of


def recounted(
    increments: Increments, before: Sequence[ResponsePart], now: Sequence[ResponsePart]
) -> Increments:
    """In which pieces an answer comes, without its keys: one that was cut in a key comes whole, with its last piece.

    Args:
        increments: in which it came.
        before: its parts.
        now: the same, without keys.
    """
    moves = [_move(text_of(one), text_of(other)) for one, other in zip(before, now, strict=True)]
    found = list(_pieces(increments, moves))
    runs: list[list[int]] = []
    for part, _, _ in found:
        if runs and runs[-1][0] == part:
            runs[-1][1] += 1
        else:
            runs.append([part, 1])
    return Increments(
        runs=tuple([(part, count) for part, count in runs]),
        lengths=tuple([length for _, length, _ in found]),
        waits=tuple([wait for _, _, wait in found]),
    )


_Move = Callable[[int], int]
"""Where in a text without keys something stands, by where it stood."""


def _pieces(increments: Increments, moves: Sequence[_Move]) -> Iterator[tuple[int, int, int]]:
    """The part, the length and the wait of each. What has no length any more is a wait before the next one."""
    at = [0] * len(moves)
    waited = 0
    numbers = [part for part, count in increments.runs for _ in range(count)]
    for part, length, wait in zip(numbers, increments.lengths, increments.waits, strict=True):
        waited += wait
        until = at[part] + length
        left = moves[part](until) - moves[part](at[part])
        at[part] = until
        if left:
            yield part, left, waited
            waited = 0


def _move(before: str, now: str) -> _Move:
    if before == now:
        return lambda place: place
    keys = list(_keys(before, now))

    def moved(place: int) -> int:
        shift = 0
        for begin, end in keys:
            if place < end:
                return shift + min(place, begin)
            shift += len(MARK) - (end - begin)
        return place + shift

    return moved


def _keys(before: str, now: str) -> Iterator[tuple[int, int]]:
    """Where each key was: what stands between the marks stands in the text of before, in the same order."""
    first, *rest = now.split(MARK)
    at = len(first)
    for number, between in enumerate(rest, 1):
        found = len(before) - len(between) if number == len(rest) else before.find(between, at)
        found = max(found, at)
        yield at, found
        at = found + len(between)
