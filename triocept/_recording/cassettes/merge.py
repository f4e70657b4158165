"""What was recorded anew, put so that as little as can be differs from what was recorded before.

Rules:

1. A call that was recorded before keeps its number, and those that did keep their order: calls that an application
   makes at once come in any.
2. An answer that says what it said before is the one from before: only its times would differ, and how it was cut.
3. Who adds to a file that others add to loses nothing of theirs, and adds no more than is lacking: each of them asks
   from its top.
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
    """The calls of a new recording, in their order.

    Args:
        old: those of the one before.
        new: those of the new one; their numbers count for nothing.
        key: what is equal for calls that ask the same.
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
    """All calls of a file, with what it lacks of a recording.

    Args:
        there: what is in it now.
        old: what was in it when the recording began.
        new: the recording.
        key: as of `merged`.
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
    """The calls; those whose number is 0 get the first that are free."""
    taken = {call.number for call in calls}
    free = (number for number in count(1) if number not in taken)
    return [call if call.number else msgspec.structs.replace(call, number=next(free)) for call in calls]
