"""Renderer of streamed answers of generateContent.

Rules:

1. Each chunk is a whole response: one or more parts, and the answer's id and model. It contains no event names, no
   comments and no `[DONE]`: each of them breaks some client (gemini-cli crashes on a comment).
2. Text is written at once; a call is written when it is whole, for the wire has no fragments of calls.
3. Parts come strictly one after the other: an event that comes early is held back until its turn.
4. The last chunk has the finish reason, the usage, estimated if unknown, and further fields of the answer.
5. An error is a bare object, without `data:` and without an empty line after it. On this form Google's Python SDK
   raises an error, and the JavaScript SDK, which splits at empty lines, cannot skip it. In an array it is the last
   item.
6. A keepalive is a response without candidates; in an array it is a line feed.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import estimate_streamed
from .._calls import fresh_id, with_id
from .._documents import encode_json, encode_text, is_same_dialect, merged
from .._failures import Failure
from ..streams import PartEvent, PartSequence, StreamRenderer
from .fields import NAME
from .parts import render_call, render_part, render_reasoning
from .response import is_blocked, render_error, render_finish, render_usage

_HEAD = b'{"candidates":[{"content":{"parts":['
_EMPTY = b'{"candidates": []}'


class Renderer(StreamRenderer):
    """A renderer of one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._array = request.framing == "json_array"
        self._opened = False  # True after the start of the array
        self._own = True
        self._about: dict[str, Json] = {}
        self._tail = b""
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}
        self._sequence = PartSequence()
        self._writer: _PartWriter | None = None
        self._parts = False
        self._calls = False
        self._refusal = False
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case PartStart() | PartDelta() | PartBlob() | PartEnd():
                found = [parts for each in self._sequence.add(event) if (parts := self._write(each))]
                self._parts = self._parts or bool(found)
                return b"".join([self._item(_HEAD + parts + self._tail) for parts in found])
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> bytes:
        document = encode_json(render_error(failure))
        return self._item(document) + b"]" if self._array else document + b"\n"

    def keepalive(self, response_id: str = "") -> bytes:
        return b"\n" if self._array else self._item(_EMPTY)

    def _start(self, event: ResponseStart) -> bytes:
        self._own = is_same_dialect(event.dialect, NAME)
        self._usage = event.usage
        self._extra = dict(event.extra or {}) if self._own else {}
        self._about = {
            "modelVersion": event.model or self._request.model,
            "responseId": event.id or fresh_id(""),
        }
        self._tail = b'],"role":"model"},"index":0}],' + encode_json(self._about)[1:]
        return b""

    def _write(self, event: PartEvent) -> bytes:
        """Return the wire parts that an event of the current part adds."""
        match event:
            case PartDelta(text=text) if self._writer:
                self._characters += len(text)
                return self._writer.text(text)
            case PartStart(part=part):
                self._refusal = self._refusal or isinstance(part, RefusalText)
                if isinstance(part, ToolCall):
                    self._calls = True
                    self._characters += len(part.name)
                self._writer = _WRITERS[type(part)](part, same_dialect=self._own)
                return self._writer.start()
            case PartBlob(blob=blob) if self._writer:
                return self._writer.blob(blob)
            case PartEnd() if self._writer:
                return self._writer.end()
            case _:
                return b""

    def _end(self, event: ResponseEnd) -> bytes:
        extra = {**self._extra, **(event.extra or {})} if self._own else {}
        candidate = {
            "content": {"parts": [{"text": ""}], "role": "model"},
            "finishReason": render_finish(event.stop_reason, calls=self._calls, refusal=self._refusal),
            "index": 0,
        }
        usage = event.usage or self._usage or estimate_streamed(self._request, self._characters)
        document: dict[str, Json] = {} if is_blocked(extra, self._parts) else {"candidates": [candidate]}
        document |= {"usageMetadata": render_usage(usage, same_dialect=self._own), **self._about}
        last = self._item(encode_json(merged(document, extra) if extra else document))
        return last + b"]" if self._array else last

    def _item(self, document: bytes) -> bytes:
        if not self._array:
            return b"data: " + document + b"\n\n"
        before, self._opened = b",\r\n" if self._opened else b"[", True
        return before + document


class _PartWriter:
    """A writer of one part as wire parts: perhaps none, perhaps many.

    Each method returns the wire parts of one chunk, separated by commas; empty bytes mean no chunk.
    """

    def __init__(self, part: ResponsePart, *, same_dialect: bool) -> None:
        self._part = part
        self._own = same_dialect
        self._held: list[str] = []

    def start(self) -> bytes:
        """Return the bytes of the part's start."""
        return b""

    def text(self, text: str) -> bytes:
        """Return the bytes of more text."""
        self._held.append(text)
        return b""

    def blob(self, blob: Blob) -> bytes:
        """Return the bytes of an opaque piece."""
        return b""

    def end(self) -> bytes:
        """Return the bytes of the part's end."""
        return b""


class _TextWriter(_PartWriter):
    """A writer of text. Text with further fields is held: on the wire it is one part of its own."""

    def start(self) -> bytes:
        part = self._part
        if not isinstance(part, Text | RefusalText):
            return b""
        self._extra = part.extra if self._own else None
        return self.text(part.text)

    def text(self, text: str) -> bytes:
        if self._extra:
            return super().text(text)
        return b'{"text":' + encode_text(text) + b"}" if text else b""

    def end(self) -> bytes:
        if not self._extra:
            return b""
        document = render_part(Text("".join(self._held), self._extra), same_dialect=True)
        return encode_json(document)


class _ThoughtWriter(_PartWriter):
    """A writer of a thought. A thought with a signature from the start is held: the wire has both in one part."""

    def start(self) -> bytes:
        part = self._part
        if not isinstance(part, Reasoning):
            return b""
        self._extra = part.extra if self._own else None
        self._blobs = part.blobs
        self._whole = bool(self._extra or part.blobs)
        return self.text(part.text)

    def text(self, text: str) -> bytes:
        if self._whole:
            return super().text(text)
        return b'{"text":' + encode_text(text) + b',"thought":true}' if text else b""

    def blob(self, blob: Blob) -> bytes:
        self._blobs = (*self._blobs, blob)
        return b""

    def end(self) -> bytes:
        whole = Reasoning("".join(self._held), self._blobs, self._extra)
        return b",".join(
            encode_json(document) for document in render_reasoning(whole, same_dialect=self._own, answer=True)
        )


class _CallWriter(_PartWriter):
    def end(self) -> bytes:
        call = self._part
        if not isinstance(call, ToolCall):
            return b""
        whole = msgspec.structs.replace(call, arguments=call.arguments + "".join(self._held))
        return encode_json(render_call(with_id(whole), same_dialect=self._own))


class _OpaqueWriter(_PartWriter):
    def start(self) -> bytes:
        document = render_part(self._part, same_dialect=self._own)
        return b"" if document is None else encode_json(document)


_WRITERS: dict[type[ResponsePart], type[_PartWriter]] = {
    Text: _TextWriter,
    RefusalText: _TextWriter,
    Reasoning: _ThoughtWriter,
    ToolCall: _CallWriter,
    Opaque: _OpaqueWriter,
}
