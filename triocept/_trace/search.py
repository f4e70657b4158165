"""Search for turns: by their new text, and by the kind of their call.

The text is searched in the new parts of a turn: its answer, and the messages that no earlier turn had. So the search
finds the turn where the text first appeared, not every call that repeats it; and each message is searched once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._canonical.content import Message
from .._canonical.form import message_key
from .conversation import CallKind, Conversation
from .recent import Recent
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
        return (
            self.kind in (None, conversation.kind)
            and self.conversation in (None, conversation.id)
            and self.outcome in (None, turn.outcome)
            and self.model in (None, *_models(turn))
            and (self.tool is None or self.tool in _called(turn))
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
            self._new[turn.id] = [*self._new_messages(turn.request.messages), *self._answer(turn)]
        self._count = len(turns)

    def has(self, turn: Turn, text: str | re.Pattern[str]) -> bool:
        """Return True if the text is in the new messages of a turn."""
        return any(_stands_in(text, part) for message in self._new[turn.id] for part in texts_of(message))

    def _new_messages(self, messages: tuple[Message, ...]) -> Iterator[Message]:
        known = self._recent.go_on(messages).known
        for message in messages[len(known) :]:
            known.append(None)
            if (key := self._key(message)) not in self._seen:
                self._seen.add(key)
                yield message

    def _answer(self, turn: Turn) -> list[Message]:
        if turn.response is None:
            return []
        answer = Message("assistant", turn.response.content)
        self._seen.add(message_key(answer))
        return [answer]

    def _key(self, message: Message) -> bytes:
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            known = self._known[id(message)] = (message, message_key(message))
        return known[1]


def _stands_in(text: str | re.Pattern[str], part: str) -> bool:
    return text in part if isinstance(text, str) else text.search(part) is not None


def _models(turn: Turn) -> tuple[str, ...]:
    return (turn.request.model, turn.response.model if turn.response is not None else "")


def _called(turn: Turn) -> list[str]:
    return [call.name for call in turn.response.tool_calls] if turn.response is not None else []
