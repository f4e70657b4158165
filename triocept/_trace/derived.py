"""Everything derived from the turns of a trace: never recorded, computed step by step and on demand.

The cost of a turn depends on its new messages: a message that the agent sends again is not compared again.

A text is searched in the new parts of a turn: its answer, and the messages that no earlier turn had. So the search
finds the turn where the text first appeared, not every call that repeats it; and each message is searched once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._canonical.content import Message
from .._canonical.form import message_key
from .conversation import CallKind, Conversation
from .conversations import Conversations
from .graph import Recent
from .relations import Relation, Relations, TurnBranch
from .texts import texts_of

if TYPE_CHECKING:
    from .turn import OutcomeKind, Turn


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Search criteria; None matches everything."""

    text: str | re.Pattern[str] | None = None
    tool: str | None = None
    kind: CallKind | None = None
    conversation: str | None = None
    outcome: OutcomeKind | None = None
    model: str | None = None

    def fits(self, turn: Turn, conversation: Conversation) -> bool:
        """Return True if a turn matches all criteria but the text."""
        response = turn.response
        called = [call.name for call in response.tool_calls] if response is not None else ()
        return (
            self.kind in (None, conversation.kind)
            and self.conversation in (None, conversation.id)
            and self.outcome in (None, turn.outcome)
            and self.model in (None, turn.request.model, response.model if response is not None else "")
            and (self.tool is None or self.tool in called)
        )


class Search:
    """The new messages of each turn."""

    def __init__(self) -> None:
        self._new: dict[str, list[Message]] = {}
        self._seen: set[bytes] = set()
        self._known: dict[int, tuple[Message, bytes]] = {}
        self._recent: Recent[None] = Recent()
        self._count = 0

    def add(self, turns: Sequence[Turn]) -> None:
        """Add all turns that were not added before."""
        for turn in turns[self._count :]:
            new = self._new[turn.id] = []
            known = self._recent.go_on(turn.request.messages).known
            for message in turn.request.messages[len(known) :]:
                known.append(None)
                entry = self._known.get(id(message))
                if entry is None or entry[0] is not message:
                    entry = self._known[id(message)] = (message, message_key(message))
                if entry[1] not in self._seen:
                    self._seen.add(entry[1])
                    new.append(message)
            if turn.response is not None:
                new.append(answer := Message("assistant", turn.response.content))
                self._seen.add(message_key(answer))
        self._count = len(turns)

    def has(self, turn: Turn, text: str | re.Pattern[str]) -> bool:
        """Return True if the text is in the new messages of a turn."""
        parts = (part for message in self._new[turn.id] for part in texts_of(message))
        return any(text in part if isinstance(text, str) else text.search(part) is not None for part in parts)


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
        return known.one(turn.id) if turn.id in known.parents else known.of_call(turn)

    def relations(self) -> dict[str, Relation]:
        """Return the relation of each turn to earlier turns, by the turn's id."""
        return self._relations.all(self.conversations())

    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """Return the path from the root to each turn that no turn continues."""
        above, by_id = self.parents, {turn.id: turn for turn in self._turns}
        continued = set(above.values())

        def thread(turn: Turn) -> tuple[Turn, ...]:
            found = [turn]
            while (parent := above[found[-1].id]) is not None:
                found.append(by_id[parent])
            return tuple(reversed(found))

        return tuple(thread(turn) for turn in self._turns if turn.id not in continued)

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
