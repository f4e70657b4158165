"""Parsers of streamed answers of chat completions, and of chunks as completions have them, too.

Grammar (of the streams that servers send, which differ from the reference)::

    stream := chunk* finish-chunk chunk* ("[DONE]" | end of bytes)

Rules:

1. A chunk may have no choice, at the start (Azure) or at the end (usage; SGLang's extensions), and a choice may have
   no content.
2. Usage may come in any chunk; the last one counts. So `ResponseEnd` waits for `[DONE]` or the end of the bytes.
3. Unknown fields of chunks are gathered into the `extra` of `ResponseEnd`, in the form that a whole answer has.
4. An error object in place of a chunk is the provider's failure; an end without a finish reason is a truncation.

Rules for chat completions:

1. A choice may have no delta.
2. A change of field ends the open text or reasoning. Tool calls stay open until the finish: they may interleave.
3. A fragment of a call belongs to the call with its `index`; without an index, to the call with its `id`. Without
   both, it belongs to the last call, unless it names a tool. An index that repeats with another id is a new call
   (Gemini's chat endpoint gives each call the index 0). Id and name may repeat, and a call may come whole in one
   fragment.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

from ..._canonical.content import Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.response import ResponsePart, StopReason, Usage
from ..._util.sse import SSE, SSEDecoder, events_pattern
from ...errors import DialectError, UpstreamTruncated
from .._documents import Fields, decode_json, gather, hides_letters, known_of
from .._failures import error_of
from ..streams import EventBuilder, StreamParser
from .parts import NAME, arguments_text, parse_content, take_reasoning
from .response import MATCHED, find_error, parse_error, parse_finish, parse_usage

DONE = b"data: [DONE]\n\n"

_CHUNKS = events_pattern(rb"\{")
_DOUBT = re.compile(
    rb'"(?:error"|(?:finish_reason|tool_calls|function_call)"\s*+:\s*+(?!null|\[\s*+\]))'
)  # SGLang writes null if there is no call


class ChunkParser(StreamParser):
    """A parser of one streamed answer; subclasses parse the content.

    Args:
        name: the dialect's name.
    """

    left_out = DONE

    def __init__(self, name: str) -> None:
        self._name = name
        self._sse = SSEDecoder()
        self._started = False
        self._done = False
        self._finish: str | None = None
        self._matched: str | None = None
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done:
                self._take(sse, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CHUNKS.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        """True if the finish reason has come."""
        return self._finish is not None

    def close(self) -> list[Event]:
        if self._done:
            return []
        if self._finish is None:
            raise UpstreamTruncated("the provider's stream ended without a finish reason")
        self._done = True
        events: list[Event] = []
        self._close_parts(events)
        stop, sequence = self._ending(self._finish, self._matched)
        if self._matched is not None and sequence is None:
            self._beside({MATCHED[0]: self._matched})
        extra = self._extra or None
        events.append(ResponseEnd(stop_reason=stop, stop_sequence=sequence, usage=self._usage, extra=extra))
        return events

    @abstractmethod
    def _content(self, choice: Fields, events: list[Event]) -> None:
        """Append the events of a choice's content."""

    @abstractmethod
    def _close_parts(self, events: list[Event]) -> None:
        """Append the ends of the parts: the answer is complete."""

    @abstractmethod
    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        """Return stop reason and stop sequence."""

    def _take(self, sse: SSE, events: list[Event]) -> None:
        if sse.event.startswith("sglext"):  # a second copy of a chunk, for clients of the extension
            return
        if sse.data.strip() == b"[DONE]":
            events += self.close()
            return
        chunk = decode_json(sse.data)
        if find_error(chunk) is not None:
            raise error_of(parse_error(0, chunk), body=sse.data.decode("utf-8", "replace"))
        fields = Fields(chunk)
        self._start(fields, events)
        self._usage = parse_usage(fields.take("usage"), "usage") or self._usage
        for path, item in fields.items("choices"):
            self._choice(Fields(item, path), events)
        gather(self._extra, fields.rest() or {})

    def _start(self, fields: Fields, events: list[Event]) -> None:
        identity, model = fields.text("id"), fields.text("model")
        fields.take("object")
        fields.take("created")
        # Azure's first chunk, about the prompt, has neither id nor model: the next chunk has both.
        if not self._started and (identity or model or fields.peek("choices")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=self._name))

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if choice.integer("index"):
            return  # only one choice was requested
        self._content(choice, events)
        reason = choice.take("finish_reason")
        for name in MATCHED:
            if isinstance(choice.peek(name), str):
                self._matched = choice.need_text(name)
        if reason:  # old Ollama writes "" for null
            self._finish = str(reason)
            self._close_parts(events)
        left = known_of(choice.rest())
        if left:
            self._beside(left)

    def _beside(self, fields: dict[str, Json]) -> None:
        gather(self._extra.setdefault("choices", [{}])[0], fields)


class Parser(ChunkParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = EventBuilder()
        self._calls = _Calls(self._parts.new_index)
        self._refusal = False

    def _close_parts(self, events: list[Event]) -> None:
        self._parts.close(events)
        self._calls.close(events)

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched, calls=self._calls.any, refusal=self._refusal)

    def _content(self, choice: Fields, events: list[Event]) -> None:
        delta = choice.object("delta") or Fields({})
        delta.take("role")
        reasoning = take_reasoning(delta)
        if reasoning is not None:
            empty = Reasoning(extra=reasoning.extra)
            self._parts.text(empty, reasoning.text, events)
            for blob in reasoning.blobs:
                self._parts.blob(empty, blob, events)
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
        choice.keep("message", delta.rest())

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
