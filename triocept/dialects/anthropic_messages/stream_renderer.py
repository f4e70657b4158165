"""Renderer of streamed answers of Messages.

Rules:

1. Every event has its name in an `event:` line: the official SDKs skip events without one.
2. Blocks come strictly one after the other: an event that comes early is held back until its turn.
3. A text block begins with its first character, so that no block is empty, for agents send blocks back. A tool's block
   has at least one delta: without a delta, some clients read `{}`, and others lose the call.
4. The signature is the last delta of a thinking block, and is never empty.
5. `message_start` contains the input tokens, estimated if unknown; `message_delta` contains all numbers, and
   supersedes them.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import CHARACTERS_PER_TOKEN, estimate_input_tokens
from ..._util.sse import encode_sse
from .._calls import fresh_id
from .._documents import decode_json, encode_json, encode_text, is_same_dialect, merged
from .._failures import Failure
from ..streams import PartEvent, PartSequence, StreamRenderer
from .parts import NAME, REDACTED, agent_signature, render_call, render_reasoning, signature_of
from .response import render_error, render_finish, render_usage
from .stream_parser import CITATIONS

_STOP = encode_sse(b'{"type":"message_stop"}', "message_stop")
_PING = encode_sse(b'{"type":"ping"}', "ping")
_UNKNOWN = Usage(input_tokens=0, output_tokens=0)


class Renderer(StreamRenderer):
    """A renderer of one streamed answer to `request`."""

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
        return (
            b'event: message_start\ndata: {"type":"message_start","message":'
            + encode_json(message)
            + b"}\n\n"
        )

    def _part(self, event: PartEvent) -> bytes:
        """Return the bytes that `event` adds, with those of held events that it releases."""
        if isinstance(event, PartStart):
            if isinstance(event.part, ToolCall):
                self._calls = True
                self._characters += len(event.part.name)
            self._refusal = self._refusal or isinstance(event.part, RefusalText)
        pieces: list[bytes] = []  # thousands, if thousands of events were held
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
        document = {
            "type": "message_delta",
            "delta": delta,
            "usage": render_usage(usage, same_dialect=self._own),
        }
        data = encode_json(merged(document, extra) if extra else document)
        return b"event: message_delta\ndata: " + data + b"\n\n" + _STOP


class _BlockWriter(msgspec.Struct):
    """A writer of one part as blocks on the wire: perhaps none, perhaps several.

    At most one block is open, and each of its deltas stands between two constant pieces.
    """

    delta: ClassVar[tuple[bytes, bytes]] = (b"", b"")
    """The type of a delta, and the field with its text."""
    number: int
    """The number of the open block, or of the next one."""
    own: bool
    """True if the part's `extra` uses this dialect's field names."""
    frame: bytes = b""
    """The bytes before the text of a delta; empty if no block is open."""
    block: dict[str, Json] = {}
    """The block that the first text opens; empty for no block."""
    behind: bytes = b""
    """The deltas that follow right after the block's start."""

    def start(self, part: ResponsePart) -> bytes:
        """Return the bytes of the part's start."""
        raise NotImplementedError

    def text(self, text: str) -> bytes:
        """Return the bytes of more text."""
        if not text:
            return b""
        if self.frame:
            return self.frame + encode_text(text) + b"}}\n\n"
        if not self.block:
            return b""
        opened = self._open(self.block) + self.behind
        return opened + self.frame + encode_text(text) + b"}}\n\n"

    def blob(self, blob: Blob) -> bytes:
        """Return the bytes of an opaque piece."""
        return b""

    def end(self) -> bytes:
        """Return the bytes of the part's end, with the end of the open block."""
        if not self.frame:
            return b""
        self.frame = b""
        self.number += 1
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % (
            self.number - 1
        )

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
        if blob.dialect != NAME or blob.kind != CITATIONS:
            return b""
        return self._cite(decode_json(blob.data))

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
    """A writer of a call, which holds arguments back that do not begin as an object.

    The wire has no other input than an object (see `render_call`).
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
    """A writer of an unknown block.

    The input of a provider's own call (`server_tool_use`, `mcp_tool_use`) goes into a delta: clients read it from no
    other field.
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
