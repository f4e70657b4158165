"""The recorded turn for a live call, strictly or as near as there is.

Rules:

1. A live conversation keeps to the recorded one that its first call was found in, as long as its calls are found there;
   one that begins takes one that no other has, if there is one: two sub-agents may have one task.
2. Of several turns that ask the same it gets one after the other, those first that no conversation has had, and the
   last of them from then on: what was refused, and asked again, is so again; and sub-agents of one task, which a record
   may hold for one, get what they all were told. A call that was hung up on is chosen only where there is no other.
3. The nearest turn is, among those of conversations of one kind, the one that has most of the moves at its beginning in
   common; of equals, the first that settled of those that this conversation has not had. The same call again gets what
   was asked again there, as in 2. System prompts do not count: a new version of an agent has another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..._trace.conversation import Conversation
from .moves import Key, Move, Moves
from .record import Record, Recorded, Thread, thread_of


class Matching:
    """What one live rollout has had of a record.

    Args:
        record: it.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._kept_to: dict[Thread, Thread] = {}
        """By a live conversation: the recorded one."""
        self._had: dict[Thread, dict[int, Key]] = {}
        """By a live conversation: what it has had, and for which call, in order."""

    def exact(self, key: Key, conversation: Conversation) -> Recorded | None:
        """The turn that asks the same."""
        live = thread_of(conversation)
        found = self._record.asking(key)
        if not found:
            return None
        own = [each for each in found if each.thread == self._kept_to.get(live)]
        taken = set(self._kept_to.values())
        free = [each for each in found if each.thread not in taken]
        same_kind = [each for each in free if each.kind == conversation.kind]
        rest = [each for each in found if not self._is_given(each)]
        return self._take(live, key, self._next(live, own or same_kind or free or rest or found))

    def nearest(self, key: Key, conversation: Conversation) -> Recorded | None:
        """The turn that is nearest; None: this conversation has had them all."""
        live = thread_of(conversation)
        had = self._had.get(live, {})
        for number, before in reversed(had.items()):
            if before == key:
                return self._again(live, key, self._record.turns[number])
        found = [
            each for each in self._record.turns if each.kind == conversation.kind and each.number not in had
        ]
        own = [each for each in found if each.thread == self._kept_to.get(live)]
        taken = set(self._kept_to.values())
        free = [each for each in found if each.thread not in taken]
        chosen = own or free or found
        near = closest(key.moves, [each for each in chosen if each.turn.outcome != "abandoned"] or chosen)
        return None if near is None else self._take(live, key, near)

    def _again(self, live: Thread, key: Key, latest: Recorded) -> Recorded:
        """The turn for a call that got this one before: if that was asked again in the record, it is the next."""
        asked = [each for each in self._record.asking(latest.key) if each.thread == latest.thread]
        return self._take(live, key, self._next(live, asked))

    def give_back(self, conversation: Conversation, turn: Recorded) -> None:
        """The conversation has not had this turn after all: its agent hung up."""
        self._had.get(thread_of(conversation), {}).pop(turn.number, None)

    def _next(self, live: Thread, found: Sequence[Recorded]) -> Recorded:
        """The first that this conversation has not had, or the last."""
        had = self._had.get(live, {})
        turns = [each for each in found if each.thread == found[0].thread]  # several may ask the same
        turns = [each for each in turns if each.turn.outcome != "abandoned"] or turns
        left = [each for each in turns if each.number not in had]
        return next((each for each in left if not self._is_given(each)), (left or turns[-1:])[0])

    def _is_given(self, turn: Recorded) -> bool:
        """Whether any conversation has had it."""
        return any(turn.number in had for had in self._had.values())

    def _take(self, live: Thread, key: Key, found: Recorded) -> Recorded:
        self._kept_to[live] = found.thread
        had = self._had.setdefault(live, {})
        had.pop(found.number, None)
        had[found.number] = key
        return found


def closest(moves: Moves, turns: Iterable[Recorded]) -> Recorded | None:
    """The turn that has most of these moves at its beginning in common; of equals the first; None: there is no turn."""
    mine = _spoken(moves)
    return max(turns, key=lambda each: common(mine, _spoken(each.key.moves)), default=None)


def common(one: Sequence[Move], other: Sequence[Move]) -> int:
    """How many moves at the beginning are the same."""
    for number, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return number
    return min(len(one), len(other))


def _spoken(moves: Moves) -> list[Move]:
    return [move for move in moves if move.role != "system"]
