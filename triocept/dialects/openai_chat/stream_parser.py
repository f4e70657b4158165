"""Streamed answers of chat completions, read.

Rules, beside those of `chunks`:

1. A choice may have no delta.
2. A change of field ends the open text or reasoning. Tool calls stay open until the finish: they may
   interleave.
"""

from __future__ import annotations

from ..._canonical.content import Reasoning, RefusalText, Text
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart
from ..._canonical.response import ResponsePart, StopReason
from .._fields import Fields
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
        self._next = 0
        self._open: tuple[int, ResponsePart] | None = None
        self._calls = Calls(self._new_index)
        self._refusal = False

    def _content(self, choice: Fields, events: list[Event]) -> None:
        delta = choice.object("delta") or Fields({})
        self._delta(delta, events)
        choice.keep("message", delta.rest())

    def _close_parts(self, events: list[Event]) -> None:
        self._close_open(events)
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
            if content:
                self._text(Text(""), content, events)
        else:
            for part in parse_content(content, delta.at("content")):  # Mistral's list
                self._part(part, events)
        refusal = delta.text("refusal")
        if refusal:
            self._refusal = True
            self._text(RefusalText(""), refusal, events)
        fragments = delta.items("tool_calls")
        legacy = delta.take("function_call")
        if legacy is not None:
            fragments.append((delta.at("function_call"), {"index": -1, "function": legacy}))
        if fragments:
            self._close_open(events)
        for path, fragment in fragments:
            self._calls.add(Fields(fragment, path), events)

    def _reasoning(self, part: Reasoning, events: list[Event]) -> None:
        index = self._continue(Reasoning(extra=part.extra), events)
        if part.text:
            events.append(PartDelta(index, part.text))
        events += [PartBlob(index, blob) for blob in part.blobs]

    def _text(self, empty: Text | RefusalText, text: str, events: list[Event]) -> None:
        events.append(PartDelta(self._continue(empty, events), text))

    def _part(self, part: object, events: list[Event]) -> None:
        if isinstance(part, Text):
            self._text(Text("", part.extra), part.text, events)
        elif isinstance(part, ResponsePart):
            self._close_open(events)
            index = self._new_index()
            events += [PartStart(index, part), PartEnd(index)]

    def _continue(self, empty: ResponsePart, events: list[Event]) -> int:
        """The index of the open part of this kind; if another is open, it ends, and a new one starts."""
        if self._open is None or type(self._open[1]) is not type(empty):
            self._close_open(events)
            self._open = (self._new_index(), empty)
            events.append(PartStart(*self._open))
        return self._open[0]

    def _new_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _close_open(self, events: list[Event]) -> None:
        if self._open is not None:
            events.append(PartEnd(self._open[0]))
            self._open = None
