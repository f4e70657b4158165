"""Search the turns of a trace by their text and other criteria.

A text is searched only in the new content of a turn: its answer, and the messages that no earlier turn had. So the
search finds the turn in which the text first appeared, but not the later calls that repeat the text. Each message is
searched once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._canonical.content import Message
from .._canonical.form import message_key
from .conversation import CallKind, Conversation
from .graph import Recent
from .texts import texts_of

if TYPE_CHECKING:
    from .turn import OutcomeKind, Turn


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Search criteria. A criterion with the value None matches every turn."""

    text: str | re.Pattern[str] | None = None
    tool: str | None = None
    kind: CallKind | None = None
    conversation: str | None = None
    outcome: OutcomeKind | None = None
    model: str | None = None

    def fits_apart_from_text(self, turn: Turn, conversation: Conversation) -> bool:
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
    """Index for searching a trace. The index assigns each message to the first turn that contains the message."""

    def __init__(self) -> None:
        self._new: dict[str, list[Message]] = {}
        self._seen: set[bytes] = set()
        self._known: dict[int, tuple[Message, bytes]] = {}
        self._recent: Recent[None] = Recent()
        self._count = 0

    def add(self, turns: Sequence[Turn]) -> None:
        """Add the turns at the end of `turns` that earlier calls of this method did not add.

        `turns` must begin with all turns that the previous call got.
        """
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
        parts = (part for message in self._new[turn.id] for part in texts_of(message))
        return any(text in part if isinstance(text, str) else text.search(part) is not None for part in parts)
