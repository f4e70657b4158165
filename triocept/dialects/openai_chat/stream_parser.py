"""Streamed answers of chat completions, read.

Grammar (of what servers send, not of what the reference says)::

    stream := chunk* finish-chunk chunk* ("[DONE]" | end of bytes)

Rules:

1. A chunk may have no choice, at the start (Azure) or at the end (usage; SGLang's extensions), and a choice
   no delta.
2. A change of field ends the open text or reasoning. Tool calls stay open until the finish: they may
   interleave.
3. Usage may come in any chunk; the last one counts. So `ResponseEnd` waits for `[DONE]` or the end of the
   bytes.
4. What a chunk has beside is gathered into the `extra` of `ResponseEnd`, in the form of a whole answer's.
5. An error object in place of a chunk is the provider's failure; an end without a finish reason is a
   truncation.
"""

from __future__ import annotations

from ..._canonical.content import Json, Reasoning, RefusalText, Text
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.response import ResponsePart, Usage
from ..._sse import SSE, SSEDecoder
from ...errors import UpstreamTruncated
from .._failures import error_of
from .._fields import Fields
from .._json import decode_json
from ..base import StreamParser
from .calls import Calls
from .error import find_error, parse_error
from .finish import parse_finish
from .names import NAME
from .parts import parse_content
from .reasoning import take_reasoning
from .response import MATCHED
from .usage import parse_usage

__all__ = ["Parser"]


class Parser(StreamParser):
    """Reads one streamed answer."""

    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._started = False
        self._done = False
        self._next = 0
        self._open: tuple[int, ResponsePart] | None = None
        self._calls = Calls(self._new_index)
        self._refusal = False
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

    @property
    def ending(self) -> bool:
        return self._finish is not None

    def close(self) -> list[Event]:
        if self._done:
            return []
        if self._finish is None:
            raise UpstreamTruncated("the provider's stream ended without a finish reason")
        events: list[Event] = []
        self._end(events)
        return events

    def _take(self, sse: SSE, events: list[Event]) -> None:
        if sse.event.startswith("sglext"):  # a second copy of a chunk, for those who ask
            return
        if sse.data.strip() == b"[DONE]":
            events += self.close()
            return
        chunk = decode_json(sse.data)
        if find_error(chunk) is not None:
            raise error_of(parse_error(0, chunk), body=sse.data.decode("utf-8", "replace"))
        fields = Fields(chunk)
        self._start(fields, events)
        usage = parse_usage(fields.take("usage"), "usage")
        self._usage = usage or self._usage
        for path, item in fields.items("choices"):
            self._choice(Fields(item, path), events)
        _gather(self._extra, fields.rest() or {})

    def _start(self, fields: Fields, events: list[Event]) -> None:
        identity, model = fields.text("id"), fields.text("model")
        fields.take("object")
        fields.take("created")
        # Azure's first chunk, about the prompt, has neither id nor model: the next one has.
        if not self._started and (identity or model or fields.peek("choices")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=NAME))

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if choice.integer("index"):
            return  # several choices were not asked for
        delta = choice.object("delta") or Fields({})
        self._delta(delta, events)
        reason = choice.take("finish_reason")
        for name in MATCHED:
            if isinstance(choice.peek(name), str):
                self._matched = choice.need_text(name)
        if reason:  # old Ollama writes "" for null
            self._finish = str(reason)
            self._close_parts(events)
        choice.keep("message", delta.rest())
        left = {name: value for name, value in (choice.rest() or {}).items() if value is not None}
        if left:
            _gather(self._extra.setdefault("choices", [{}])[0], left)

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

    def _close_parts(self, events: list[Event]) -> None:
        self._close_open(events)
        self._calls.close(events)

    def _end(self, events: list[Event]) -> None:
        self._done = True
        self._close_parts(events)
        stop, sequence = parse_finish(
            self._finish, self._matched, calls=self._calls.any, refusal=self._refusal
        )
        if self._matched is not None and sequence is None:
            _gather(self._extra.setdefault("choices", [{}])[0], {MATCHED[0]: self._matched})
        events.append(
            ResponseEnd(
                stop_reason=stop, stop_sequence=sequence, usage=self._usage, extra=self._extra or None
            )
        )


def _gather(into: dict[str, Json], more: dict[str, Json]) -> None:
    """Add a chunk's unknown fields: lists go on, objects are merged, of anything else the last one counts."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known += value
        elif isinstance(known, dict) and isinstance(value, dict):
            _gather(known, value)
        elif value is not None or known is None:
            into[name] = value
