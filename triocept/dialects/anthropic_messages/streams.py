"""Parser and renderer of streamed answers of the Messages API.

Grammar of the parser::

    stream := message_start ( block_start block_delta* block_stop )* message_delta+ message_stop ; ping
    anywhere

Rules of the parser:

1. The `type` in an event's data determines the kind of event, not the event's name. Unknown events are skipped.
2. Blocks may overlap (as in llama.cpp), and block numbers need not be consecutive.
3. A block of an unknown type is collected. When the block is complete, it becomes one opaque part.
4. The usage in `message_delta` replaces the usage in `message_start`.
5. An `error` event means that the provider failed. A stream that ends without `message_stop` was truncated.

Rules of the renderer:

1. Every event has its name in an `event:` line, because the official SDKs skip events without a name.
2. Blocks are written strictly one after the other. An event of a later block is not written until the earlier block has
   ended.
3. A text block begins only when its first character has arrived. So no block is empty: agents send blocks back, and the
   API accepts no empty block. A `tool_use` block has at least one delta: without a delta, some clients read `{}` as the
   input, and others lose the call.
4. The signature is the last delta of a thinking block, and is never empty.
5. `message_start` contains the input tokens, which are estimated if unknown. `message_delta` contains all token counts,
   which replace the counts of `message_start`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import CHARACTERS_PER_TOKEN, estimate_input_tokens
from ..._util.sse import SSEDecoder, encode_sse, events_pattern
from ...errors import DialectError, UpstreamTruncated
from .._calls import fresh_id, object_of
from .._documents import (
    Fields,
    decode_json,
    encode_json,
    encode_text,
    hides_letters,
    is_same_dialect,
    known_of,
    merged,
    types_come_first,
)
from .._failures import Failure, error_of
from ..streams import PartEvent, PartSequence, StreamParser, StreamRenderer
from .parts import (
    NAME,
    REDACTED,
    agent_signature,
    parse_block,
    render_call,
    render_reasoning,
    signature_blobs,
    signature_of,
)
from .response import (
    check_aborted,
    parse_error,
    parse_finish,
    parse_usage,
    render_error,
    render_finish,
    render_usage,
)

_CONTENT = events_pattern(rb'\{"type": ?"content_block_delta",', rb"content_block_delta")


class Parser(StreamParser):
    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._blocks = Blocks()
        self._done = False
        self._usage: dict[str, Json] = {}
        self._identity = ""
        self._reason: str | None = None
        self._sequence: str | None = None
        self._extra: dict[str, Json] = {}

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done:
                self._take(decode_json(sse.data), sse.data, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CONTENT.fullmatch(data) is not None
        return whole and types_come_first(data) and b'"stop_reason"' not in data and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._reason is not None

    def close(self) -> list[Event]:
        if not self._done:
            raise UpstreamTruncated("the provider's stream ended without message_stop")
        return []

    def _take(self, document: Json, data: bytes, events: list[Event]) -> None:
        fields = Fields(document)
        match fields.text("type"):
            case "content_block_delta":
                self._blocks.delta(fields, events)
            case "content_block_start":
                self._blocks.start(fields, events)
            case "content_block_stop":
                self._blocks.stop(fields, events)
            case "message_start":
                message = fields.need_object("message")
                identity, model = message.text("id") or "", message.text("model") or ""
                self._identity = identity
                self._count(message.take("usage"))
                for known in ("type", "role", "content", "stop_reason", "stop_sequence"):
                    message.take(known)
                extra = known_of(message.rest()) or None
                usage = parse_usage(self._usage, "message.usage")
                events.append(ResponseStart(id=identity, model=model, usage=usage, extra=extra, dialect=NAME))
            case "message_delta":
                delta = fields.object("delta") or Fields({})
                self._reason = delta.text("stop_reason") or self._reason
                if self._reason is None:
                    check_aborted(self._identity)
                self._sequence = delta.text("stop_sequence") or self._sequence
                self._count(fields.take("usage"))
                self._extra |= known_of(delta.rest()) | known_of(fields.rest())
            case "message_stop":
                self._end(events)
            case kind if kind == "error" or (kind is None and fields.peek("error")):
                raise error_of(parse_error(0, document), body=data.decode("utf-8", "replace"))

    def _count(self, usage: Json) -> None:
        self._usage |= known_of(usage if isinstance(usage, dict) else None)

    def _end(self, events: list[Event]) -> None:
        if self._reason is None:
            raise UpstreamTruncated("the provider's stream ended without a stop reason")
        self._done = True
        self._blocks.close(events)
        stop, kept = parse_finish(self._reason, calls=self._blocks.calls)
        usage, extra = parse_usage(self._usage, "usage"), {**self._extra, **kept} or None
        events.append(ResponseEnd(stop_reason=stop, stop_sequence=self._sequence, usage=usage, extra=extra))


CITATIONS = "citations"
_TEXT_OF = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class _Block:
    """A content block of which the parser has received a part."""

    __slots__ = ("index", "json", "raw", "start", "texts", "written")

    def __init__(self, start: ResponsePart, index: int, raw: dict[str, Json]) -> None:
        self.start = start
        self.index = index
        self.raw = raw  # the fields of an opaque block so far
        self.json: list[str] = []  # the input of an opaque block
        self.texts: dict[str, list[str]] = {}  # the pieces of text fields that deltas extend
        self.written = False

    def add(self, kind: str, delta: Fields) -> None:
        """Add a delta to a block of an unknown type: append its texts, and overwrite all other values."""
        if kind == "input_json_delta":
            self.json.append(delta.text("partial_json") or "")
            return
        if kind == "citations_delta":
            self.raw.setdefault(CITATIONS, []).append(delta.take("citation"))
            return
        for name, value in (delta.rest() or {}).items():
            known = self.raw.get(name)
            if isinstance(known, str) and isinstance(value, str):
                self.texts.setdefault(name, [known]).append(value)
            else:
                self.raw[name] = value
                self.texts.pop(name, None)


class Blocks:
    """A converter of a stream's block events to part events. The methods append part events to the list `events`."""

    def __init__(self) -> None:
        self._open: dict[int, _Block] = {}
        self._next = 0
        self.calls: bool = False
        """True if the answer calls a tool of the agent."""

    def start(self, fields: Fields, events: list[Event]) -> None:
        number, raw = fields.need_integer("index"), fields.mapping("content_block") or {}
        part = parse_block(raw, fields.at("content_block"))
        if not isinstance(part, Text | Reasoning | ToolCall):
            part = Opaque(NAME, raw)
        self._open[number] = block = _Block(part, self._next, dict(raw))
        self._next += 1
        match part:
            case ToolCall(arguments=arguments):
                self.calls = True
                # A server that sends the whole input at the start sends no deltas: the input is written at the stop.
                block.json = [] if arguments == "{}" else [arguments]
                events.append(PartStart(block.index, ToolCall(part.name, "", part.id, extra=part.extra)))
            case Text(text=text, extra=extra):
                known = known_of(extra)
                citations = known.pop(CITATIONS, None) or ()
                events.append(PartStart(block.index, Text("", known or None)))
                self._write(block, text, events)
                events += [PartBlob(block.index, _citation(item)) for item in citations]
            case Reasoning(text=text, blobs=blobs, extra=extra):
                events.append(PartStart(block.index, Reasoning("", (), extra)))
                self._write(block, text, events)
                events += [PartBlob(block.index, blob) for blob in blobs]

    def delta(self, fields: Fields, events: list[Event]) -> None:
        number = fields.need_integer("index")
        block = self._open.get(number)
        if block is None:
            raise DialectError(
                f"the content block {number} is not open at this point of the stream", path="index"
            )
        delta = fields.need_object("delta")
        kind = delta.need_text("type")
        if isinstance(block.start, Opaque):
            block.add(kind, delta)
        elif kind in _TEXT_OF:
            self._write(block, delta.text(_TEXT_OF[kind]) or "", events)
        elif kind == "signature_delta":
            events += [PartBlob(block.index, blob) for blob in signature_blobs(delta.text("signature"))]
        elif kind == "citations_delta":
            events.append(PartBlob(block.index, _citation(delta.take("citation"))))

    def stop(self, fields: Fields, events: list[Event]) -> None:
        if (block := self._open.pop(fields.need_integer("index"), None)) is not None:
            self._finish(block, events)

    def close(self, events: list[Event]) -> None:
        for block in self._open.values():
            self._finish(block, events)
        self._open.clear()

    def _write(self, block: _Block, text: str, events: list[Event]) -> None:
        if text:
            block.written = True
            events.append(PartDelta(block.index, text))

    def _finish(self, block: _Block, events: list[Event]) -> None:
        if isinstance(block.start, Opaque):
            if block.json:
                block.raw["input"] = object_of("".join(block.json))
            block.raw |= {name: "".join(pieces) for name, pieces in block.texts.items()}
            events.append(PartStart(block.index, Opaque(NAME, block.raw)))
        elif isinstance(block.start, ToolCall) and not block.written:
            self._write(block, "".join(block.json) or "{}", events)
        events.append(PartEnd(block.index))


def _citation(value: Json) -> Blob:
    return Blob(NAME, CITATIONS, encode_json(value).decode())


_STOP = encode_sse(b'{"type":"message_stop"}', "message_stop")
_PING = encode_sse(b'{"type":"ping"}', "ping")
_UNKNOWN = Usage(input_tokens=0, output_tokens=0)


class Renderer(StreamRenderer):
    def __init__(self, request: Request) -> None:
        self._request = request
        self._own = True
        self._usage = _UNKNOWN
        self._number = 0  # the number of the next block on the wire
        self._writer: _BlockWriter | None = None  # the writer of the part whose events pass
        self._sequence = PartSequence()
        self._calls = False
        self._refusal = False
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case PartDelta(index=index, text=text):
                self._characters += len(text)
                if self._writer and index == self._sequence.current:
                    return self._writer.text(text)
                return self._part(event)
            case PartStart() | PartEnd() | PartBlob():
                return self._part(event)
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> bytes:
        return encode_sse(encode_json(render_error(failure)), "error")

    def keepalive(self, response_id: str = "") -> bytes:
        return _PING

    def _start(self, event: ResponseStart) -> bytes:
        self._own = is_same_dialect(event.dialect, NAME)
        self._usage = event.usage or Usage(
            input_tokens=estimate_input_tokens(self._request), output_tokens=1, estimated=True
        )
        message: dict[str, Json] = {
            "id": event.id or fresh_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": event.model or self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": render_usage(self._usage, same_dialect=self._own),
        }
        if self._own and event.extra:
            message = merged(message, event.extra)
        data = b'{"type":"message_start","message":' + encode_json(message) + b"}"
        return b"event: message_start\ndata: " + data + b"\n\n"

    def _part(self, event: PartEvent) -> bytes:
        """Return the bytes that can be sent now: those of `event`, and those of earlier events that had to wait."""
        if isinstance(event, PartStart):
            if isinstance(event.part, ToolCall):
                self._calls = True
                self._characters += len(event.part.name)
            self._refusal = self._refusal or isinstance(event.part, RefusalText)
        pieces: list[bytes] = []  # may be thousands, if thousands of events were held back
        for each in self._sequence.add(event):
            match each:
                case PartStart(part=part):
                    self._writer = _WRITERS[type(part)](self._number, self._own)
                    pieces.append(self._writer.start(part))
                case PartDelta(text=text) if self._writer:
                    pieces.append(self._writer.text(text))
                case PartBlob(blob=blob) if self._writer:
                    pieces.append(self._writer.blob(blob))
                case PartEnd() if self._writer:
                    pieces.append(self._writer.end())
                    self._number = self._writer.number
                    self._writer = None
        return b"".join(pieces)

    def _end(self, event: ResponseEnd) -> bytes:
        delta: dict[str, Json] = {
            "stop_reason": render_finish(event.stop_reason, calls=self._calls, refusal=self._refusal),
            "stop_sequence": event.stop_sequence,
        }
        extra = dict(event.extra or {}) if self._own else {}
        for name in ("stop_reason", "stop_details", "container"):
            if name in extra:
                delta[name] = extra.pop(name)
        usage = event.usage or self._usage
        if event.usage is None and usage.estimated:
            output = max(1, self._characters // CHARACTERS_PER_TOKEN)
            usage = Usage(input_tokens=usage.input_tokens, output_tokens=output, estimated=True)
        counts = render_usage(usage, same_dialect=self._own)
        document = merged({"type": "message_delta", "delta": delta, "usage": counts}, extra)
        return b"event: message_delta\ndata: " + encode_json(document) + b"\n\n" + _STOP


class _BlockWriter(msgspec.Struct):
    """A base class of writers. Each writer writes one part as content blocks (none, one or several).

    At most one block is open at a time. The bytes before and after the text are the same in each delta of a block.
    """

    delta: ClassVar[tuple[bytes, bytes]] = (b"", b"")
    """The `type` of a delta in the stream, and the name of the delta's field that contains the text."""
    number: int
    """The index of the open block. If no block is open: the index of the next block."""
    own: bool
    """True if the part was parsed from this dialect, so that its `extra` is written."""
    frame: bytes = b""
    """The bytes to write before the text of a delta; empty if no block is open."""
    block: dict[str, Json] = {}
    """The JSON of the block that the first text opens; empty if text does not open a block."""
    behind: bytes = b""
    """The bytes of deltas that are written right after the block's start."""

    def start(self, part: ResponsePart) -> bytes:
        raise NotImplementedError

    def text(self, text: str) -> bytes:
        """Return the bytes to write for the next piece of the part's text."""
        if not text:
            return b""
        if self.frame:
            return self.frame + encode_text(text) + b"}}\n\n"
        if not self.block:
            return b""
        return self._open(self.block) + self.behind + self.frame + encode_text(text) + b"}}\n\n"

    def blob(self, blob: Blob) -> bytes:
        return b""

    def end(self) -> bytes:
        """Return the bytes to write when the part ends, including the end of a block that is open."""
        if not self.frame:
            return b""
        self.frame = b""
        number, self.number = self.number, self.number + 1
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % number

    def _open(self, block: Json) -> bytes:
        self.frame = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
            b'{"type":"%b","%b":' % (self.number, *self.delta)
        )
        document = {"type": "content_block_start", "index": self.number, "content_block": block}
        return b"event: content_block_start\ndata: " + encode_json(document) + b"\n\n"

    def _delta(self, delta: Json) -> bytes:
        document = {"type": "content_block_delta", "index": self.number, "delta": delta}
        return b"event: content_block_delta\ndata: " + encode_json(document) + b"\n\n"


class _TextWriter(_BlockWriter):
    delta: ClassVar = (b"text_delta", b"text")

    def start(self, part: ResponsePart) -> bytes:
        if not isinstance(part, Text | RefusalText):
            return b""
        self.block = {"type": "text", "text": "", **((part.extra or {}) if self.own else {})}
        for citation in self.block.pop(CITATIONS, None) or ():
            self._cite(citation)
        return self.text(part.text)

    def blob(self, blob: Blob) -> bytes:
        cited = blob.dialect == NAME and blob.kind == CITATIONS
        return self._cite(decode_json(blob.data)) if cited else b""

    def _cite(self, citation: Json) -> bytes:
        delta = self._delta({"type": "citations_delta", "citation": citation})
        if self.frame:
            return delta
        self.block[CITATIONS] = []
        self.behind += delta
        return b""


class _ThinkingWriter(_BlockWriter):
    delta: ClassVar = (b"thinking_delta", b"thinking")
    extra: dict[str, Json] = {}
    blobs: tuple[Blob, ...] = ()

    def start(self, part: ResponsePart) -> bytes:
        if not isinstance(part, Reasoning):
            return b""
        self.extra = dict(part.extra or {}) if self.own else {}
        self.block = merged({"type": "thinking", "thinking": "", "signature": ""}, self.extra)
        self.blobs = part.blobs
        return self.text(part.text)

    def blob(self, blob: Blob) -> bytes:
        self.blobs = (*self.blobs, blob)
        return b""

    def end(self) -> bytes:
        blobs, data = self.blobs, b""
        if not self.frame and signature_of(blobs):
            data = self._open(self.block)
        if self.frame:
            self.extra = {}
            data += self._delta({"type": "signature_delta", "signature": agent_signature(blobs)})
            data += super().end()
            blobs = tuple(blob for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED)
        for block in render_reasoning(Reasoning("", blobs, self.extra), same_dialect=True, signed_only=False):
            data += self._open(block) + super().end()
        return data


class _CallWriter(_BlockWriter):
    """A writer of a tool call. Arguments that do not begin with `{` are not written until the call is complete.

    The API requires an object as the input of a call (see `render_call`).
    """

    delta: ClassVar = (b"input_json_delta", b"partial_json")
    call: ToolCall = ToolCall("")
    held: list[str] | None = []

    def start(self, part: ResponsePart) -> bytes:
        if not isinstance(part, ToolCall):
            return b""
        self.call = part
        block = render_call(msgspec.structs.replace(part, arguments="", kind="json"), same_dialect=self.own)
        return self._open(block) + self.text(part.arguments)

    def text(self, text: str) -> bytes:
        if self.held is None:
            return super().text(text)
        self.held.append(text)
        if self.call.kind == "text" or not text.strip():
            return b""
        whole = "".join(self.held)
        if not whole.lstrip().startswith("{"):
            return b""
        self.held = None
        return super().text(whole)

    def end(self) -> bytes:
        data = b""
        if self.held is not None:
            whole = msgspec.structs.replace(self.call, arguments="".join(self.held))
            data = super().text(encode_json(render_call(whole, same_dialect=False)["input"]).decode())
        return data + super().end()


class _OpaqueWriter(_BlockWriter):
    """A writer of a content block of an unknown type.

    The input of a call of a provider's own tool (`server_tool_use`, `mcp_tool_use`) is written as a delta, because
    clients read the input only from deltas.
    """

    delta: ClassVar = (b"input_json_delta", b"partial_json")

    def start(self, part: ResponsePart) -> bytes:
        if not (isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.raw, dict)):
            return b""
        given = part.raw.get("input")
        if not (str(part.raw.get("type")).endswith("_tool_use") and isinstance(given, dict)):
            return self._open(part.raw) + self.end()
        begun = self._open({**part.raw, "input": {}})
        return begun + self.text(encode_json(given).decode()) + self.end()


_WRITERS: dict[type[ResponsePart], type[_BlockWriter]] = {
    Text: _TextWriter,
    RefusalText: _TextWriter,
    Reasoning: _ThinkingWriter,
    ToolCall: _CallWriter,
    Opaque: _OpaqueWriter,
}
