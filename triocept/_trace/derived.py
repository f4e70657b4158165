"""Everything derived from the turns of a trace: never recorded, computed step by step and on demand.

The cost of a turn depends on its new messages: a message that the agent sends again is not compared again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .conversation import Conversation
from .conversations import Conversations
from .relation import Relation, TurnBranch
from .relations import Relations
from .search import Search, Wanted

if TYPE_CHECKING:
    from .turn import Turn


class Derived:
    """Data derived from a list of turns that may grow."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._conversations = Conversations()
        """Conversations of the first turns, as the relations and the search below; other turns are added on demand."""
        self._relations = Relations()
        self._search = Search()

    @property
    def parents(self) -> dict[str, str | None]:
        """For each turn's id, the id of the turn it continues."""
        return self._known().parents

    def conversations(self) -> dict[str, Conversation]:
        """Return the conversation of each turn, by the turn's id."""
        return self._known().all()

    def conversation_of(self, turn: Turn) -> Conversation:
        """Return the conversation of a turn, which may not have settled yet."""
        known = self._known()
        return known.one(turn.id) if turn.id in known.parents else known.tell(turn)

    def relations(self) -> dict[str, Relation]:
        """Return the relation of each turn to earlier turns, by the turn's id."""
        return self._relations.all(self.conversations())

    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """Return the path from the root to each turn that no turn continues."""
        above, by_id = self.parents, {turn.id: turn for turn in self._turns}
        continued = set(above.values())
        return tuple(_thread(turn, above, by_id) for turn in self._turns if turn.id not in continued)

    def branches(self) -> tuple[TurnBranch, ...]:
        """Return the turns in stretches, each turn in one stretch."""
        above, conversations = self.parents, self.conversations()
        stretches: list[list[Turn]] = []
        ends: dict[str, list[Turn]] = {}
        """Stretch by the id of its last turn so far."""
        for turn in self._turns:
            parent = above[turn.id]
            stretch = ends.pop(parent, None) if parent is not None else None
            if stretch is None:
                stretches.append(stretch := [])
            stretch.append(turn)
            ends[turn.id] = stretch
        return tuple(
            TurnBranch(turns=tuple(each), leaves=above[each[0].id], conversation=conversations[each[0].id])
            for each in stretches
        )

    def find(self, wanted: Wanted) -> tuple[Turn, ...]:
        """Return the turns that match."""
        conversations = self.conversations()
        turns = [turn for turn in self._turns if wanted.fits(turn, conversations[turn.id])]
        if wanted.text is None:
            return tuple(turns)
        self._search.add(self._turns)
        return tuple([turn for turn in turns if self._search.has(turn, wanted.text)])

    def _known(self) -> Conversations:
        """Add the turns that are missing, and return the conversations."""
        known = self._conversations
        for number in range(len(known), len(self._turns)):
            turn = self._turns[number]
            self._relations.add(turn, known.add(turn))
        return known


def _thread(turn: Turn, above: dict[str, str | None], by_id: dict[str, Turn]) -> tuple[Turn, ...]:
    found = [turn]
    while (parent := above[found[-1].id]) is not None:
        found.append(by_id[parent])
    return tuple(reversed(found))
