"""The relation of each turn to earlier turns (see `relation` for the names).

Rules, the first that fits:

1. A call that repeats a call of its conversation is a retry if the earlier call got no answer, or the agent's SDK marks
   it. Else it is a repeat of an answered call.
2. A call that continues a turn of its own conversation continues that turn (see `graph`).
3. The first call of a side call, or of the program's tools, belongs to the conversation that was running.
4. The first call of a sub-agent was started by a tool call (see `launches`), else it left the turn that it continues.
5. Any other first call of a conversation continues a turn of another conversation, or begins.
6. A later call that continues no turn continues from a summary (see `compaction`), or rewrites the conversation.

The cost of a turn depends on its new messages. The kind of a conversation may change later, so it is computed on
demand.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from .conversation import Conversation, is_side_call
from .launches import Launch, Launches
from .relation import Relation

if TYPE_CHECKING:
    from .turn import Turn


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a turn in the graph."""

    node: int
    """Node of the graph in which the turn's conversation ends."""
    conversation: Hashable
    """Key that is equal for the turns of one conversation."""
    parent: str | None
    """Id of the turn that this turn continues."""
    summary: str | None
    """Id of the turn whose summary this turn contains."""


class _Fact(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a turn that do not change any more."""

    turn: str
    place: Place
    again: Relation | None
    before: str | None
    """Id of the previous turn of the turn's conversation."""
    launch: Launch | None
    leaves: bool
    """True if the continued turn is of another conversation."""


class Relations:
    """The relations of the turns so far."""

    def __init__(self) -> None:
        self._facts: list[_Fact] = []
        self._launches = Launches()
        self._asked: dict[tuple[int, Hashable], Turn] = {}
        self._latest: dict[Hashable, str] = {}
        self._conversation_of: dict[str, Hashable] = {}

    def add(self, turn: Turn, place: Place) -> None:
        """Add a turn."""
        whose, parent = place.conversation, place.parent
        earlier = self._asked.get((place.node, whose))
        self._facts.append(
            _Fact(
                turn=turn.id,
                place=place,
                again=_again(turn, earlier) if earlier is not None else None,
                before=self._latest.get(whose),
                launch=self._launch_of(turn) if whose not in self._latest else None,
                leaves=parent is not None and self._conversation_of[parent] != whose,
            )
        )
        self._launches.add(turn)
        self._asked[place.node, whose] = turn
        self._latest[whose] = turn.id
        self._conversation_of[turn.id] = whose

    def _launch_of(self, turn: Turn) -> Launch | None:
        """Return the call that started the conversation of this turn; None for a title, which contains the task,
        too."""
        return None if is_side_call(turn.request) else self._launches.of(turn.request)

    def all(self, conversations: Mapping[str, Conversation]) -> dict[str, Relation]:
        """Return the relation of each turn, by the turn's id, for the current conversations."""
        return dict(self._named(conversations))

    def _named(self, conversations: Mapping[str, Conversation]) -> Iterator[tuple[str, Relation]]:
        at: dict[str, str] = {}
        """Latest turn so far, by a conversation's id."""
        for fact in self._facts:
            mine = conversations[fact.turn]
            aside = at.get(mine.id) or at.get(mine.parent or "") or next(reversed(at.values()), None)
            yield fact.turn, _relation(fact, mine, aside)
            if mine.kind in ("main", "sub_agent"):
                at.pop(mine.id, None)
                at[mine.id] = fact.turn


def _again(turn: Turn, earlier: Turn) -> Relation:
    is_retry = earlier.outcome != "answered" or turn.attempt > 1
    return Relation(kind="retry" if is_retry else "repeat", turn=earlier.id)


def _relation(fact: _Fact, mine: Conversation, aside: str | None) -> Relation:
    """Return the relation of a turn, given the current turn of the surrounding conversation."""
    parent = fact.place.parent
    if fact.again is not None:
        return fact.again
    if parent is not None and not fact.leaves:
        return Relation(kind="continues", turn=parent)
    if mine.kind in ("side", "tool"):
        return Relation(kind=mine.kind, turn=parent or aside)
    if fact.before is None:
        return _beginning(fact, mine)
    if parent is not None:
        return Relation(kind="continues", turn=parent)
    if fact.place.summary is not None:
        return Relation(kind="compaction", turn=fact.place.summary)
    return Relation(kind="rewrite", turn=fact.before)


def _beginning(fact: _Fact, mine: Conversation) -> Relation:
    launch, parent = fact.launch, fact.place.parent
    if mine.kind == "sub_agent" and launch is not None:
        return Relation(kind="sub_agent", turn=launch.turn, call=launch.number)
    if mine.kind == "sub_agent":
        return Relation(kind="sub_agent", turn=parent)
    return Relation(kind="begins") if parent is None else Relation(kind="continues", turn=parent)
