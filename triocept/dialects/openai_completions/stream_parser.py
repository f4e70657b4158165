"""Streamed answers of completions, read: the rules are those of `openai_chat.chunks`; a choice may have no text."""

from __future__ import annotations

from ..._canonical.content import Text
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart
from ..._canonical.response import StopReason
from .._fields import Fields
from ..openai_chat.chunks import ChunkParser
from .finish import parse_finish
from .names import NAME

__all__ = ["Parser"]


class Parser(ChunkParser):
    """Reads one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._index = 0  # of the part that is open, or that is next
        self._open = False

    def _content(self, choice: Fields, events: list[Event]) -> None:
        text = choice.text("text")
        if not text:
            return
        if not self._open:
            self._open = True
            events.append(PartStart(self._index, Text("")))
        events.append(PartDelta(self._index, text))

    def _close_parts(self, events: list[Event]) -> None:
        if self._open:
            self._open = False
            events.append(PartEnd(self._index))
            self._index += 1

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched)
