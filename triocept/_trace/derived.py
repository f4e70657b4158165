"""What follows from the turns of a trace: never recorded, found step by step, and only when somebody asks.

What a turn costs is what is new in it: no message is looked at again because the agent sends it again.
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
    """What follows from these turns, to which more may be appended."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._conversations = Conversations()
        """Of the first turns, as the two below; the rest is added when somebody asks."""
        self._relations = Relations()
        self._search = Search()

    @property
    def parents(self) -> dict[str, str | None]:
        """For each turn's id, that of the turn it continues."""
        return self._known().parents

    def conversations(self) -> dict[str, Conversation]:
        """For each turn's id, whose call it is."""
        return self._known().all()

    def conversation_of(self, turn: Turn) -> Conversation:
        """Whose call this is, that may not have settled yet."""
        known = self._known()
        return known.one(turn.id) if turn.id in known.parents else known.tell(turn)

    def relations(self) -> dict[str, Relation]:
        """For each turn's id, how it stands to those before it."""
        return self._relations.all(self.conversations())

    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """From each turn that nothing continues, up to its root, turned around."""
        above, by_id = self.parents, {turn.id: turn for turn in self._turns}
        continued = set(above.values())
        return tuple(_thread(turn, above, by_id) for turn in self._turns if turn.id not in continued)

    def branches(self) -> tuple[TurnBranch, ...]:
        """The turns in stretches, each turn in one."""
        above, conversations = self.parents, self.conversations()
        stretches: list[list[Turn]] = []
        ends: dict[str, list[Turn]] = {}
        """By the id of a turn that is the last of its stretch so far."""
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
        """The turns that are wanted."""
        conversations = self.conversations()
        turns = [turn for turn in self._turns if wanted.fits(turn, conversations[turn.id])]
        if wanted.text is None:
            return tuple(turns)
        self._search.add(self._turns)
        return tuple([turn for turn in turns if self._search.has(turn, wanted.text)])

    def _known(self) -> Conversations:
        """All the turns, taken in."""
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
