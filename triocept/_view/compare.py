"""Align the turns of two runs by their answers, so that the page can show the runs side by side.

If a run has several equal answers, these answers are numbered in order. Each of these answers is aligned only with the
equal answer that has the same number in the other run. So the longest alignment is found in n log n steps. Equal turns
at the beginning and at the end of both runs are aligned without these numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain, zip_longest

from .._canonical.content import Message
from .._canonical.form import message_key
from .._trace.turn import Turn
from .runs import Row


def compared(one: Sequence[Turn], other: Sequence[Turn]) -> list[Row]:
    """Align the turns of two rollouts, and return a row for each pair.

    Two turns with equal answers form a pair. The turns between such pairs are paired in order, and marked as changed.
    """
    keys = [*map(_key, one)], [*map(_key, other)]
    pairs: list[Row] = []
    i = j = 0
    for i_same, j_same in chain(_aligned(*keys), [(len(one), len(other))]):
        for a, b in zip_longest(one[i:i_same], other[j:j_same]):
            kind = "only_b" if a is None else "only_a" if b is None else "changed"
            pairs.append({"a": a and a.id, "b": b and b.id, "kind": kind})
        if i_same < len(one):
            pairs.append({"a": one[i_same].id, "b": other[j_same].id, "kind": "same"})
        i, j = i_same + 1, j_same + 1
    return pairs


def _key(turn: Turn) -> bytes:
    response = turn.response
    said = message_key(Message("assistant", tuple(response.content))) if response is not None else b""
    return turn.outcome.encode() + said


def _aligned(one: Sequence[bytes], other: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the indexes, in `one` and in `other`, of each pair of equal keys that are aligned, in order."""
    shorter = min(len(one), len(other))
    start = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    rest = shorter - start
    end = next((i for i in range(rest) if one[-1 - i] != other[-1 - i]), rest)
    yield from zip(range(start), range(start), strict=True)
    places = {key: j for j, key in enumerate(_numbered(other[start : len(other) - end]), start)}
    found = ((i, places.get(key)) for i, key in enumerate(_numbered(one[start : len(one) - end]), start))
    yield from _longest([(i, j) for i, j in found if j is not None])
    yield from ((len(one) - i, len(other) - i) for i in range(end, 0, -1))


def _numbered(keys: Sequence[bytes]) -> Iterator[Hashable]:
    seen: Counter[bytes] = Counter()
    for key in keys:
        yield key, seen[key]
        seen[key] += 1


def _longest(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest subsequence of `pairs` in which the second number of each pair is larger than the one before.

    In `pairs` itself, the first numbers already increase.
    """
    ends: list[int] = []
    """For each length, the lowest second number with which a subsequence of this length can end."""
    last: list[int] = []
    """For each length, the index of the last pair of this subsequence."""
    before: list[int] = []
    """For each pair, the index of the pair that comes before it in its subsequence."""
    for index, (_, j) in enumerate(pairs):
        length = bisect_left(ends, j)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [j]
        last[length : length + 1] = [index]
    found: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        found.append(pairs[index])
        index = before[index]
    return found[::-1]
