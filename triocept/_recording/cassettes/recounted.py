"""The pieces of an answer from which keys were removed, with their new lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..._canonical.response import ResponsePart
from ..._trace.increments import Increments
from ..._util.secrets import MARK
from ..pieces import text_of


def recounted(
    increments: Increments, before: Sequence[ResponsePart], now: Sequence[ResponsePart]
) -> Increments:
    """Return the pieces of an answer without its keys; a key that spanned pieces comes with its last piece.

    Args:
        increments: the original pieces.
        before: the original parts.
        now: the parts without keys.
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
"""A function that maps a position in a text to the position in the text without keys."""


def _pieces(increments: Increments, moves: Sequence[_Move]) -> Iterator[tuple[int, int, int]]:
    """Yield part, length and wait of each piece. The wait of an empty piece is added to the next piece."""
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
    """Yield the position of each key: text between the marks also stands in the original text, in order."""
    first, *rest = now.split(MARK)
    at = len(first)
    for number, between in enumerate(rest, 1):
        found = len(before) - len(between) if number == len(rest) else before.find(between, at)
        found = max(found, at)
        yield at, found
        at = found + len(between)
