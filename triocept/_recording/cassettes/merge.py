"""Merging a new recording with the previous recording, with the smallest possible difference.

Rules:

1. A call that was recorded before keeps its number, and such calls keep their order: the order of concurrent calls is
   random.
2. An answer with equal content is replaced by the previous answer: only its times and pieces would differ.
3. Adding to a file that other writers add to loses none of their calls, and adds only missing calls: each writer
   sends its calls from the beginning.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import count

import msgspec

from ..answer import says_the_same
from .document import Recorded


def merged(
    old: Sequence[Recorded], new: Sequence[Recorded], key: Callable[[Recorded], bytes]
) -> list[Recorded]:
    """Return the calls of a new recording, in their order.

    Args:
        old: calls of the previous recording.
        new: calls of the new recording; their numbers are ignored.
        key: function whose results are equal for equal calls.
    """
    waiting: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for number, call in enumerate(old):
        waiting[key(call)].append(number)
    places = [waiting[key(call)].popleft() if waiting[key(call)] else None for call in new]
    again = iter(sorted((place, number) for number, place in enumerate(places) if place is not None))
    kept: list[Recorded] = []
    for call, place in zip(new, places, strict=True):
        if place is None:
            kept.append(msgspec.structs.replace(call, number=0))
        else:
            before, now = next(again)
            kept.append(_again(old[before], new[now]))
    return numbered(kept)


def added(
    there: Sequence[Recorded],
    old: Sequence[Recorded],
    new: Sequence[Recorded],
    key: Callable[[Recorded], bytes],
) -> list[Recorded]:
    """Return all calls of a file, with the calls of a recording that it lacks.

    Args:
        there: current content of the file.
        old: content of the file when the recording began.
        new: the recording.
        key: as in `merged`.
    """
    spare = Counter(map(key, there))
    spare.subtract(map(key, old))
    lacking = []
    for call in new:
        if spare[key(call)] > 0:
            spare[key(call)] -= 1
        else:
            lacking.append(msgspec.structs.replace(call, number=0))
    return numbered([*there, *lacking])


def _again(before: Recorded, now: Recorded) -> Recorded:
    answer = before.answer if says_the_same(before.answer, now.answer) else now.answer
    return msgspec.structs.replace(now, number=before.number, answer=answer)


def numbered(calls: Sequence[Recorded]) -> list[Recorded]:
    """Return the calls; each call with number 0 gets the first free number."""
    taken = {call.number for call in calls}
    free = (number for number in count(1) if number not in taken)
    return [call if call.number else msgspec.structs.replace(call, number=next(free)) for call in calls]
