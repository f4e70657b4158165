"""Parser of streamed answers of completions, by the rules of `openai_chat.chunks`; a choice may have no text."""

from __future__ import annotations

from ..._canonical.content import Text
from ..._canonical.events import Event
from ..._canonical.response import StopReason
from .._documents import Fields
from ..openai_chat.chunks import ChunkParser
from ..openai_chat.ending import parse_finish
from ..streams import EventBuilder
from .names import NAME


class Parser(ChunkParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = EventBuilder()

    def _content(self, choice: Fields, events: list[Event]) -> None:
        self._parts.text(Text(""), choice.text("text") or "", events)

    def _close_parts(self, events: list[Event]) -> None:
        self._parts.close(events)

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched, calls=False, refusal=False)
