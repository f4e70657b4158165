"""The recorded turn for a live call, strict or nearest.

Rules:

1. A live conversation stays with the recorded conversation in which its first call was found, as long as its calls are
   found there. A new conversation prefers a recorded conversation that no other has: two sub-agents may have one task.
2. Several recorded turns with equal requests are used in order, first the turns that no conversation has had, and the
   last of them from then on. So a call that was refused and retried is refused and retried again. Sub-agents of one
   task, which a record may hold as one, get all recorded answers. A call from which the agent disconnected is chosen
   only if there is no other.
3. The nearest turn is the turn with the most moves in common from the beginning, among conversations of one kind. Of
   equals, the first to settle wins that this conversation has not had. An equal call again is answered as in 2. System
   prompts do not count: a new version of an agent has another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..._trace.conversation import Conversation
from .moves import Key, Move, Moves
from .record import Record, Recorded, Thread, thread_of


class Matching:
    """The turns of a record that one live rollout has had.

    Args:
        record: the record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._kept_to: dict[Thread, Thread] = {}
        """The recorded conversation of each live conversation."""
        self._had: dict[Thread, dict[int, Key]] = {}
        """The turns that each live conversation has had, each with its call, in order."""

    def exact(self, key: Key, conversation: Conversation) -> Recorded | None:
        """Return the turn with an equal request."""
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
        """Return the nearest turn; None: this conversation has had them all."""
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
        """Return the turn for a call that got `latest` before: the next one if the record repeats the call."""
        asked = [each for each in self._record.asking(latest.key) if each.thread == latest.thread]
        return self._take(live, key, self._next(live, asked))

    def give_back(self, conversation: Conversation, turn: Recorded) -> None:
        """Note that the conversation has not had this turn after all: its agent disconnected."""
        self._had.get(thread_of(conversation), {}).pop(turn.number, None)

    def _next(self, live: Thread, found: Sequence[Recorded]) -> Recorded:
        """Return the first turn that this conversation has not had, or the last turn."""
        had = self._had.get(live, {})
        turns = [each for each in found if each.thread == found[0].thread]  # several may have equal requests
        turns = [each for each in turns if each.turn.outcome != "abandoned"] or turns
        left = [each for each in turns if each.number not in had]
        return next((each for each in left if not self._is_given(each)), (left or turns[-1:])[0])

    def _is_given(self, turn: Recorded) -> bool:
        """Return True if any conversation has had the turn."""
        return any(turn.number in had for had in self._had.values())

    def _take(self, live: Thread, key: Key, found: Recorded) -> Recorded:
        self._kept_to[live] = found.thread
        had = self._had.setdefault(live, {})
        had.pop(found.number, None)
        had[found.number] = key
        return found


def closest(moves: Moves, turns: Iterable[Recorded]) -> Recorded | None:
    """Return the turn with the longest beginning in common, of equals the first; None: there is no turn."""
    mine = _spoken(moves)
    return max(turns, key=lambda each: common(mine, _spoken(each.key.moves)), default=None)


def common(one: Sequence[Move], other: Sequence[Move]) -> int:
    """Return the number of equal moves at the beginning."""
    for number, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return number
    return min(len(one), len(other))


def _spoken(moves: Moves) -> list[Move]:
    return [move for move in moves if move.role != "system"]
