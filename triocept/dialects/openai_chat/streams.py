"""Parsers and renderers of streamed chat completions; `openai_completions` uses their base classes, too.

Grammar of the streams that servers really send. This grammar differs from OpenAI's reference::

    stream := chunk* finish-chunk chunk* ("[DONE]" | end of bytes)

Rules of the parser:

1. A chunk may have no choice. Examples are Azure's first chunk, and a last chunk with the usage or with SGLang's
   extensions. A choice may have no content.
2. Usage may come in any chunk; the parser uses the last usage. So `ResponseEnd` waits for `[DONE]` or the end of the
   bytes.
3. Unknown fields of chunks are combined in the `extra` of `ResponseEnd`, so that the combined fields equal the fields
   of an answer that is not streamed.
4. An error object in place of a chunk means that the provider failed. A stream that ends without a finish reason was
   truncated.

Further rules for chat completions:

1. A choice may have no `delta`.
2. The open text or reasoning ends when a delta with another field comes. Fragments of several tool calls may
   interleave, so calls stay open until the finish reason comes.
3. A fragment belongs to the call with the fragment's `index`. A fragment without an index belongs to the call with the
   fragment's `id`. A fragment without an index and an id begins a new call if the fragment names a tool. If the
   fragment names no tool, it belongs to the last call. A fragment with a known index and another id begins a new call
   (Gemini's chat endpoint sends the index 0 for each call). Later fragments may repeat the id and the name, and one
   fragment may contain a complete call.

Rules of the renderer:

1. A stream consists of a chunk with the role, chunks with deltas, exactly one chunk with the finish reason, a chunk
   with the usage if it was requested, and `[DONE]`.
2. Tool calls are numbered from 0; other parts get no number.
3. All chunks have the same id, `created` and model.
4. Parts that chat completions cannot express are left out.
5. A call that must be converted to another kind (see `FittedCall`) is not written until it is complete.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

from ..._canonical.content import Blob, Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, StopReason, Usage
from ..._canonical.tokens import estimate_streamed
from ..._util.sse import SSE, SSEDecoder, events_pattern
from ...errors import DialectError, UpstreamTruncated
from .._calls import FittedCall, custom_names, fresh_id, with_id
from .._clock import answer_time
from .._documents import (
    Fields,
    decode_json,
    encode_json,
    encode_text,
    gather,
    hides_letters,
    is_same_dialect,
    known_of,
    merged,
    parse_content,
)
from .._failures import Failure, error_of
from ..streams import EventBuilder, StreamParser, StreamRenderer
from .parts import (
    DETAILS,
    NAME,
    field_of,
    parse_part,
    render_call,
    render_detail,
    take_arguments,
    take_reasoning,
)
from .response import (
    MATCHED,
    find_error,
    parse_error,
    parse_finish,
    parse_usage,
    render_error,
    render_finish,
    render_usage,
)

DONE = b"data: [DONE]\n\n"

_CHUNKS = events_pattern(rb"\{")
_DOUBT = re.compile(
    rb'"(?:error"|(?:finish_reason|tool_calls|function_call)"\s*+:\s*+(?!null|\[\s*+\]))'
)  # SGLang writes null if there is no call


class ChunkParser(StreamParser):
    """A base class of parsers for streams of the dialect `name`. Each subclass parses the content of choices."""

    left_out = DONE

    def __init__(self, name: str) -> None:
        self._name = name
        self._sse = SSEDecoder()
        self._started = False
        self._done = False
        self._finish: str | None = None
        self._matched: str | None = None
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
        events.append(ResponseEnd(stop_reason=stop, stop_sequence=sequence, usage=self.usage, extra=extra))
        return events

    @abstractmethod
    def _content(self, choice: Fields, events: list[Event]) -> None:
        """Parse the content of `choice`, and append its events to `events`."""

    @abstractmethod
    def _close_parts(self, events: list[Event]) -> None:
        """Append the end event of each open part to `events`, because the answer is complete."""

    @abstractmethod
    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        """Return the stop reason and the stop string for a finish reason and a matched stop string."""

    def _take(self, sse: SSE, events: list[Event]) -> None:
        if sse.event.startswith("sglext"):  # a second copy of a chunk, for clients of the extension
            return
        if sse.data.strip() == b"[DONE]":
            self.has_ended = True
            events += self.close()
            return
        chunk = decode_json(sse.data)
        if find_error(chunk) is not None:
            raise error_of(parse_error(0, chunk), body=sse.data.decode("utf-8", "replace"))
        fields = Fields(chunk)
        identity, model = fields.text("id"), fields.text("model")
        fields.take("object")
        fields.take("created")
        # Azure's first chunk, about the prompt, has neither id nor model: the next chunk has both.
        if not self._started and (identity or model or fields.peek("choices")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=self._name))
        self.usage: Usage | None = parse_usage(fields.take("usage"), "usage") or self.usage
        for path, item in fields.items("choices"):
            self._choice(Fields(item, path), events)
        gather(self._extra, fields.rest() or {})

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if choice.integer("index"):
            return  # ignore further choices: only one was requested
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
            for part in parse_content(content, delta.at("content"), parse_part):  # Mistral's list
                if isinstance(part, Text):
                    self._parts.text(Text("", part.extra), part.text, events)
                elif isinstance(part, ResponsePart):
                    self._parts.close(events)
                    index = self._parts.new_index()
                    events += [PartStart(index, part), PartEnd(index)]
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


class _Call:
    """A tool call of which the parser has received a part."""

    __slots__ = ("id", "index", "kind", "path")

    def __init__(self, fields: Fields, identity: str) -> None:
        self.path = fields.path
        self.id = identity
        self.kind = "custom" if fields.peek("type") == "custom" or fields.peek("custom") else "function"
        self.index: int | None = None  # None until the name of the tool has come


class _Calls:
    """A converter of fragments of tool calls to events. `new_index` returns the index of the next part."""

    def __init__(self, new_index: Callable[[], int]) -> None:
        self._new_index = new_index
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._open: list[_Call] = []
        self.any: bool = False
        """True if the answer contains a call."""

    def add(self, fields: Fields, events: list[Event]) -> None:
        """Append the events of one fragment of a tool call (`fields`) to `events`."""
        identity, number = fields.text("id") or "", fields.integer("index")
        inner = fields.object("custom") or fields.object("function") or Fields({}, fields.path)
        name = inner.text("name") or ""
        text = take_arguments(inner, "input") or take_arguments(inner, "arguments")
        if number is not None:
            call = self._by_index.get(number)
            if call is not None and identity and call.id and identity != call.id:
                call = None
        elif identity:
            call = self._by_id.get(identity)
        else:
            call = self._open[-1] if self._open and not name else None
        if call is None:
            call = _Call(fields, identity)
            self._open.append(call)
        call.id = call.id or identity
        if call.id:
            self._by_id.setdefault(call.id, call)
        if number is not None:
            self._by_index[number] = call
        if call.index is None:
            if not name:
                if text:
                    raise DialectError(
                        "the arguments of a tool call came before the name of the tool", path=call.path
                    )
                return
            call.index, self.any = self._new_index(), True
            extra = dict(fields.rest() or {})
            extra.pop("type", None)
            kind: Literal["json", "text"] = "text" if call.kind == "custom" else "json"
            events.append(PartStart(call.index, ToolCall(name, "", call.id, kind, extra or None)))
        if text:
            events.append(PartDelta(call.index, text))

    def close(self, events: list[Event]) -> None:
        """Append the end event of each open call. Raise `DialectError` if a call has no name."""
        for call in self._open:
            if call.index is None:
                raise DialectError("is missing in the tool call", path=f"{call.path}.{call.kind}.name")
            events.append(PartEnd(call.index))
        self._open.clear()
        self._by_index.clear()
        self._by_id.clear()


class ChunkRenderer(StreamRenderer):
    """A base class of renderers of OpenAI's chunks, for one answer to `request`. Subclasses render the content.

    `name` is the name of the dialect, and `kind` is the value of a chunk's field `object`. A generated id begins with
    `prefix`. `render_error` returns the JSON body of an error.
    """

    def __init__(
        self, request: Request, name: str, kind: str, prefix: str, render_error: Callable[[Failure], Json]
    ) -> None:
        self._request = request
        self._name = name
        self._render_error = render_error
        self._kind = kind
        self._prefix = prefix
        self._own = True
        self._head = b""
        self._start_usage: Usage | None = None
        self._characters = 0

    def fail(self, failure: Failure) -> bytes:
        return b"data: " + encode_json(self._render_error(failure)) + b"\n\n"

    def begin(self, event: ResponseStart) -> None:
        self._own = is_same_dialect(event.dialect, self._name)
        self._start_usage = event.usage
        self._open_head(event.id, event.model)

    def _open_head(self, identity: str, model: str) -> None:
        """Build the JSON fields that all chunks share. Do nothing if a keep-alive has already built these fields."""
        if self._head:
            return
        fields = {
            "id": identity or fresh_id(self._prefix),
            "object": self._kind,
            "created": int(answer_time()),
            "model": model or self._request.model,
        }
        self._head = b"data: " + encode_json(fields)[:-1] + b","

    def _line(self, fields: dict[str, Json]) -> bytes:
        return self._head + encode_json(fields)[1:] + b"\n\n"

    def tail(self, counted: Usage | None) -> bytes:
        """Return the last bytes of a stream: the chunk with the usage, if it was requested, and `[DONE]`."""
        if not self._request.include_usage:
            return DONE
        usage = counted or self._start_usage or estimate_streamed(self._request, self._characters)
        return self._line({"choices": [], "usage": render_usage(usage, same_dialect=self._own)}) + DONE


_NO_FINISH = b',"logprobs":null,"finish_reason":null}]}\n\n'


class _OpenCall(FittedCall):
    """A tool call that the renderer has not completely written yet."""

    def __init__(self, number: int, call: ToolCall, customs: frozenset[str]) -> None:
        super().__init__(call, customs)
        self.number = number
        self.written = False


class Renderer(ChunkRenderer):
    def __init__(self, request: Request) -> None:
        super().__init__(request, NAME, "chat.completion.chunk", "chatcmpl-", render_error)
        self._frames: dict[int, tuple[bytes, bytes]] = {}  # bytes around a delta, by the index of its part
        self._open_calls: dict[int, _OpenCall] = {}
        self._calls = 0
        self._refusal = False

    def render(self, event: Event) -> bytes:
        match event:
            case PartDelta(index=index, text=text):
                return self._delta(index, text)
            case PartStart(index=index, part=part):
                return self._part(index, part)
            case PartEnd(index=index):
                return self._part_end(index)
            case PartBlob(blob=blob):
                return self._blob(blob)
            case ResponseStart():
                self.begin(event)
                return self._chunk({"role": "assistant", "content": ""}, event.extra if self._own else None)
            case ResponseEnd():
                return self._end(event)

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head(response_id, "")
        return self._chunk({})

    def _part(self, index: int, part: ResponsePart) -> bytes:
        match part:
            case Text(text=text):
                self._frame(index, b'"content":')
                extra = self._chunk(part.extra) if self._own and part.extra else b""
                return extra + self._delta(index, text)
            case Reasoning(text=text, blobs=blobs):
                name = field_of(part, same_dialect=self._own)
                if name != DETAILS:
                    self._frame(index, b'"' + name.encode() + b'":')
                return self._delta(index, text) + b"".join(map(self._blob, blobs))
            case RefusalText(text=text):
                self._refusal = True
                self._frame(index, b'"refusal":')
                return self._delta(index, text)
            case ToolCall():
                self._open_calls[index] = opened = _OpenCall(self._calls, part, custom_names(self._request))
                self._calls += 1
                self._characters += len(part.name)
                if opened.held:
                    return b""
                return self._call_head(opened, part, index) + self._delta(index, part.arguments)
            case _:
                return b""

    def _call_head(self, opened: _OpenCall, call: ToolCall, index: int) -> bytes:
        inner = b'"custom":{"input":' if call.kind == "text" else b'"function":{"arguments":'
        self._frame(index, b'"tool_calls":[{"index":%d,' % opened.number + inner, b"}}]")
        document = render_call(with_id(call), same_dialect=self._own)
        field = "input" if call.kind == "text" else "arguments"
        document["custom" if call.kind == "text" else "function"][field] = ""
        return self._chunk({"tool_calls": [{"index": opened.number, **document}]})

    def _delta(self, index: int, text: str) -> bytes:
        frame = self._frames.get(index)
        if frame is not None and text:
            self._characters += len(text)
            if index in self._open_calls:
                self._open_calls[index].written = True
            return frame[0] + encode_text(text) + frame[1]
        if index in self._open_calls:
            self._open_calls[index].hold(text)
        return b""

    def _blob(self, blob: Blob) -> bytes:
        detail = render_detail(blob)
        if detail is not None:
            return self._chunk({DETAILS: [detail]})
        if self._own and blob.dialect == NAME and blob.kind != DETAILS:
            return self._chunk({blob.kind: [decode_json(blob.data)]})
        return b""

    def _part_end(self, index: int) -> bytes:
        data = b""
        opened = self._open_calls.get(index)
        if opened is not None and opened.held:
            fitted = opened.release()
            data = self._call_head(opened, fitted, index) + self._delta(index, fitted.arguments)
        if opened is not None and not opened.written and opened.call.kind == "json":
            data += self._delta(index, "{}")
        self._frames.pop(index, None)
        self._open_calls.pop(index, None)
        return data

    def _end(self, event: ResponseEnd) -> bytes:
        finish = render_finish(event.stop_reason, calls=self._calls > 0, refusal=self._refusal)
        choice: dict[str, Json] = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
        if event.stop_sequence is not None:
            choice[MATCHED[0]] = event.stop_sequence
        extra = dict(event.extra or {}) if self._own else {}
        # Put unknown fields of a whole answer's choice into the last choice, and unknown fields of its message into the
        # delta.
        match extra.pop("choices", None):
            case [dict() as further, *_]:
                named = {"delta" if name == "message" else name: value for name, value in further.items()}
                choice = merged(choice, named)
        return self._line({**extra, "choices": [choice]}) + self.tail(event.usage)

    def _frame(self, index: int, before: bytes, behind: bytes = b"") -> None:
        head = self._head + b'"choices":[{"index":0,"delta":{' + before
        self._frames[index] = (head, behind + b"}" + _NO_FINISH)

    def _chunk(self, delta: Json, extra: dict[str, Json] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._line({**(extra or {}), "choices": [choice]})
