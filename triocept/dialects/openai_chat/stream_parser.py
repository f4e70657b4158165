"""Parser of streamed answers of chat completions.

Rules, beside those of `chunks`:

1. A choice may have no delta.
2. A change of field ends the open text or reasoning. Tool calls stay open until the finish: they may interleave.
3. A fragment of a call belongs to the call with its `index`; without an index, to the call with its `id`. Without
   both, it belongs to the last call, unless it names a tool. An index that repeats with another id is a new call
   (Gemini's chat endpoint gives each call the index 0). Id and name may repeat, and a call may come whole in one
   fragment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..._canonical.content import Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart
from ..._canonical.response import ResponsePart, StopReason
from ...errors import DialectError
from .._documents import Fields
from ..streams import EventBuilder
from .chunks import ChunkParser
from .ending import parse_finish
from .names import NAME
from .parts import parse_content
from .reasoning import take_reasoning
from .tools import arguments_text


class Parser(ChunkParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = EventBuilder()
        self._calls = _Calls(self._parts.new_index)
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


class _Call:
    """A call that is being written."""

    __slots__ = ("empty", "id", "index", "kind", "path")

    def __init__(self, fields: Fields, identity: str) -> None:
        self.path = fields.path
        self.id = identity
        self.kind = "custom" if fields.peek("type") == "custom" or fields.peek("custom") else "function"
        self.index: int | None = None  # None until the name of the tool has come
        self.empty = True


class _Calls:
    """A builder of tool calls: it takes fragments, and appends events.

    Args:
        new_index: returns the index of the next part.
    """

    def __init__(self, new_index: Callable[[], int]) -> None:
        self._new_index = new_index
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._open: list[_Call] = []
        self.any: bool = False
        """True if the answer contains a call."""

    def add(self, fields: Fields, events: list[Event]) -> None:
        """Take one fragment."""
        identity, number = fields.text("id") or "", fields.integer("index")
        inner = fields.object("custom") or fields.object("function") or Fields({}, fields.path)
        name = inner.text("name") or ""
        text = arguments_text(inner.take("input"), inner.at("input")) or arguments_text(
            inner.take("arguments"), inner.at("arguments")
        )
        call = self._find(number, identity, name)
        if call is None:
            call = _Call(fields, identity)
            self._open.append(call)
        call.id = call.id or identity
        if call.id:
            self._by_id.setdefault(call.id, call)
        if number is not None:
            self._by_index[number] = call
        self._write(call, name, text, fields.rest(), events)

    def close(self, events: list[Event]) -> None:
        """End all calls.

        Raises:
            DialectError: a call has no name.
        """
        for call in self._open:
            if call.index is None:
                raise DialectError("a tool call without a name", path=f"{call.path}.{call.kind}.name")
            events.append(PartEnd(call.index))
        self._open.clear()
        self._by_index.clear()
        self._by_id.clear()

    def _find(self, number: int | None, identity: str, name: str) -> _Call | None:
        if number is not None:
            call = self._by_index.get(number)
            return None if call is not None and identity and call.id and identity != call.id else call
        if identity:
            return self._by_id.get(identity)
        return self._open[-1] if self._open and not name else None

    def _write(
        self, call: _Call, name: str, text: str, extra: dict[str, Json] | None, events: list[Event]
    ) -> None:
        if call.index is None:
            if not name:
                if text:
                    raise DialectError("arguments of a tool call without a name", path=call.path)
                return
            call.index, self.any = self._new_index(), True
            if extra is not None:
                extra.pop("type", None)
            kind: Literal["json", "text"] = "text" if call.kind == "custom" else "json"
            events.append(PartStart(call.index, ToolCall(name, "", call.id, kind, extra or None)))
        if text:
            events.append(PartDelta(call.index, text))
