"""The recorded turn for a live call, strict or nearest; and the turn at which a run forks.

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

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from ..._canonical.memory import common_head
from ..._trace.conversation import Conversation, names_of
from .record import Key, Move, Moves, Record, Recorded, Thread, thread_of


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
            if before == key:  # the next turn if the record repeats the call
                latest = self._record.turns[number]
                asked = [each for each in self._record.asking(latest.key) if each.thread == latest.thread]
                return self._take(live, key, self._next(live, asked))
        found = [
            each for each in self._record.turns if each.kind == conversation.kind and each.number not in had
        ]
        own = [each for each in found if each.thread == self._kept_to.get(live)]
        taken = set(self._kept_to.values())
        free = [each for each in found if each.thread not in taken]
        chosen = own or free or found
        near = closest(key.moves, [each for each in chosen if each.turn.outcome != "abandoned"] or chosen)
        return None if near is None else self._take(live, key, near)

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
    return max(turns, key=lambda each: common_head(mine, _spoken(each.key.moves)), default=None)


def _spoken(moves: Moves) -> list[Move]:
    return [move for move in moves if move.role != "system"]


_TOLD = 10
"""Maximum ids in an error."""

TurnName: TypeAlias = str | int | tuple[str, int]
"""Name of a turn:

* its id;
* its number within the main conversation, from 0 (below 0: from the end);
* a conversation and the number there, or the conversation alone for its first turn.

A conversation is named by its id, or by its name in `triocept show`: `sub-agent 1`."""


def find_turn(record: Record, name: TurnName) -> Recorded:
    """Return the turn of this name.

    Raises:
        LookupError: there is no such turn; the text lists the turns.
    """
    names = {called: id_ for (id_, _), called in names_of(each.conversation for each in record.turns).items()}
    if isinstance(name, str):
        for each in record.turns:
            if each.turn.id == name:
                return each
        if name in names:
            return find_turn(record, (name, 0))
        raise LookupError(
            f"the trace of rollout {record.trace.rollout} has no turn {name!r}; there are "
            f"{', '.join(each.turn.id for each in record.turns[:_TOLD]) or 'none'}"
            f"{', …' if len(record.turns) > _TOLD else ''}"
        )
    conversation, number = (None, name) if isinstance(name, int) else name
    turns = [
        each
        for thread, each_thread in record.threads.items()
        if not thread[1]
        for each in each_thread
        if (
            each.kind == "main"
            if conversation is None
            else thread[0] in (conversation, names.get(conversation))
        )
    ]
    called = "main conversation" if conversation is None else f"conversation {conversation!r}"
    if not turns and conversation is not None:
        there = ", ".join(names) or "none"
        raise LookupError(f"rollout {record.trace.rollout} has no {called}; there are {there}")
    if not -len(turns) <= number < len(turns):
        there = f"0 to {len(turns) - 1}" if len(turns) > 1 else "0" if turns else "none"
        raise LookupError(
            f"the {called} of rollout {record.trace.rollout} has no turn {number}; it has {there}"
        )
    return turns[number]


def following(record: Record, launches: Mapping[Thread, Recorded], turn: Recorded) -> frozenset[int]:
    """Return the numbers of a turn and of all turns that follow from it.

    These are the later turns of its conversation, and the sub-agents begun there.

    Args:
        record: the record.
        launches: the turn that began each sub-agent (`Order.launches`).
        turn: the turn.
    """
    turns = record.threads[turn.thread]
    found = {each.number for each in turns[turns.index(turn) :]}
    for thread, launch in launches.items():  # in the order in which they began
        if launch.number in found:
            found |= {each.number for each in record.threads[thread]}
    return frozenset(found)
