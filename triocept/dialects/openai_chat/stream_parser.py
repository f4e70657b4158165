"""Streamed answers of chat completions, read.

Rules, beside those of `chunks`:

1. A choice may have no delta.
2. A change of field ends the open text or reasoning. Tool calls stay open until the finish: they may
   interleave.
"""

from __future__ import annotations

from ..._canonical.content import Reasoning, RefusalText, Text
from ..._canonical.events import Event, PartEnd, PartStart
from ..._canonical.response import ResponsePart, StopReason
from .._fields import Fields
from .._increments import Increments
from .calls import Calls
from .chunks import ChunkParser
from .finish import parse_finish
from .names import NAME
from .parts import parse_content
from .reasoning import take_reasoning

__all__ = ["Parser"]


class Parser(ChunkParser):
    """Reads one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = Increments()
        self._calls = Calls(self._parts.new_index)
        self._refusal = False

    def _content(self, choice: Fields, events: list[Event]) -> None:
        delta = choice.object("delta") or Fields({})
        self._delta(delta, events)
        choice.keep("message", delta.rest())

    def _close_parts(self, events: list[Event]) -> None:
        self._parts.close(events)
        self._calls.close(events)

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched, calls=self._calls.any, refusal=self._refusal)

    def _delta(self, delta: Fields, events: list[Event]) -> None:
        delta.take("role")
        reasoning = take_reasoning(delta)
        if reasoning is not None:
            self._reasoning(reasoning, events)
        content = delta.take("content")
        if isinstance(content, str):
            self._parts.text(Text(""), content, events)
        else:
            for part in parse_content(content, delta.at("content")):  # Mistral's list
                self._part(part, events)
        refusal = delta.text("refusal")
        if refusal:
            self._refusal = True
            self._parts.text(RefusalText(""), refusal, events)
        fragments = delta.items("tool_calls")
        legacy = delta.take("function_call")
        if legacy is not None:
            fragments.append((delta.at("function_call"), {"index": -1, "function": legacy}))
        if fragments:
            self._parts.close(events)
        for path, fragment in fragments:
            self._calls.add(Fields(fragment, path), events)

    def _reasoning(self, part: Reasoning, events: list[Event]) -> None:
        empty = Reasoning(extra=part.extra)
        self._parts.text(empty, part.text, events)
        for blob in part.blobs:
            self._parts.blob(empty, blob, events)

    def _part(self, part: object, events: list[Event]) -> None:
        if isinstance(part, Text):
            self._parts.text(Text("", part.extra), part.text, events)
        elif isinstance(part, ResponsePart):
            self._parts.close(events)
            index = self._parts.new_index()
            events += [PartStart(index, part), PartEnd(index)]
