"""Streamed answers of generateContent, written.

Rules:

1. Each chunk is a whole response: one or more parts, and the answer's id and model. There are no event names, no
   comments and no `[DONE]`: each of them ends some client (gemini-cli dies of a comment).
2. Text goes out as it comes; a call when it is whole, for the wire has no fragments of one.
3. Parts are strictly one after the other: what comes early is held back until its turn.
4. The last chunk has the finish reason and the usage, estimated if need be, and what the answer has beside.
5. An error is a bare object, without `data:` and without an empty line behind it: so Google's Python SDK raises it,
   and the JavaScript one, which cuts at empty lines, cannot pass over it. In an array it is the last item.
6. A keepalive is a response without candidates; in an array it is a line feed.
"""

from __future__ import annotations

from ..._canonical.content import Json, RefusalText, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import Usage
from ..._canonical.tokens import estimate_streamed
from .._documents import encode_json, is_same_dialect, merged
from .._failures import Failure
from .._ids import fresh_id
from .._parts_in_turn import PartEvent, PartSequence
from ..streams import StreamRenderer
from .ending import render_finish, render_usage
from .error import render_error
from .names import NAME
from .response import is_blocked
from .writers import PartWriter, writer_of

__all__ = ["Renderer"]

_HEAD = b'{"candidates":[{"content":{"parts":['
_EMPTY = b'{"candidates": []}'


class Renderer(StreamRenderer):
    """Writes one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._array = request.framing == "json_array"
        self._opened = False  # the array
        self._own = True
        self._about: dict[str, Json] = {}
        self._tail = b""
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}
        self._sequence = PartSequence()
        self._writer: PartWriter | None = None
        self._parts = False
        self._calls = False
        self._refusal = False
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case PartStart() | PartDelta() | PartBlob() | PartEnd():
                return b"".join([self._chunk(self._write(each)) for each in self._sequence.add(event)])
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
        """The wire parts that this event of the part whose turn it is adds."""
        match event:
            case PartDelta(text=text) if self._writer:
                self._characters += len(text)
                return self._writer.text(text)
            case PartStart(part=part):
                self._refusal = self._refusal or isinstance(part, RefusalText)
                if isinstance(part, ToolCall):
                    self._calls = True
                    self._characters += len(part.name)
                self._writer = writer_of(part, same_dialect=self._own)
                return self._writer.start()
            case PartBlob(blob=blob) if self._writer:
                return self._writer.blob(blob)
            case PartEnd() if self._writer:
                return self._writer.end()
            case _:
                return b""

    def _chunk(self, parts: bytes) -> bytes:
        if not parts:
            return b""
        self._parts = True
        return self._item(_HEAD + parts + self._tail)

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
