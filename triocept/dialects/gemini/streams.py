"""Parser and renderer of streamed answers of generateContent.

Grammar of the parser::

    stream := response* response-with-finishReason response*   as server-sent events, or as a JSON array

Rules of the parser:

1. `Chunks` parses the responses. The first byte that is not white space determines the framing: `[` begins an array,
   whose items are parsed when they arrive.
2. Only the finish reason shows that an answer is complete. A stream without a finish reason was truncated. Usage may
   come after the finish reason, so `ResponseEnd` waits for the end of the bytes.
3. An error object in place of a response means that the provider failed. Among server-sent events, the error may be a
   bare JSON object, on one line or on several. Google sends errors in this form, and Google's Python SDK reads them.
4. The parser holds at most one document in memory, and the size of a document is limited.

Rules of the renderer:

1. Each chunk is a whole response: one or more parts, and the answer's id and model. The stream contains no event names,
   no comments and no `[DONE]`, because each of these makes some client fail (gemini-cli crashes on a comment).
2. Text is written when it arrives. A tool call is written when it is complete, because the API cannot express a
   fragment of a call.
3. Parts are written strictly one after the other. An event of a later part is not written until the earlier part has
   ended.
4. The last chunk has the finish reason, the usage (estimated if unknown), and further fields of the answer.
5. An error is a bare object, without `data:` before it and without an empty line after it. For an error in this form,
   Google's Python SDK raises an exception. Google's JavaScript SDK splits the stream at empty lines; since no empty
   line follows, the SDK does not skip the error. In an array, the error is the last item.
6. A keep-alive is a response without candidates, or a line feed in an array.
"""

from __future__ import annotations

import re

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import estimate_streamed
from ..._util.sse import MAX_EVENT, SSE, SSEDecoder, events_pattern
from ...errors import DialectError
from .._calls import fresh_id, with_id
from .._documents import (
    decode_json,
    encode_json,
    encode_text,
    hides_letters,
    is_same_dialect,
    merged,
    present,
)
from .._failures import Failure, error_of
from ..streams import PartEvent, PartSequence, StreamParser, StreamRenderer
from .parts import NAME, render_call, render_part, render_reasoning
from .response import Chunks, find_error, is_blocked, parse_error, render_error, render_finish, render_usage

_CHUNKS = events_pattern(rb"\{")
# Protobuf reads both spellings.
_DOUBT = re.compile(
    rb'"(?:error|finishReason|finish_reason|blockReason|block_reason|functionCall|function_call)"'
)


class Parser(StreamParser):
    def __init__(self) -> None:
        self._framing = _Framing()
        self._chunks = Chunks()
        self._done = False

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for document in self._framing.feed(data):
            self._take(document, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CHUNKS.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._chunks.ending

    def close(self) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        for document in self._framing.feed(b"\n"):  # the end of the last line
            self._take(document, events)
        self._done = True
        self._chunks.end(events)
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        if self._done or data.strip() == b"[DONE]":  # some gateways write it
            return
        document = decode_json(data)
        if find_error(document) is not None:
            raise error_of(parse_error(0, document), body=data.decode("utf-8", "replace"))
        self._chunks.take(document, events)


_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class _Framing:
    """A decoder that splits a stream's bytes into whole JSON documents."""

    def __init__(self) -> None:
        self._decoder: _Events | _Objects | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the JSON documents that `data` completes.

        Raises:
            DialectError: a document exceeds the maximum size.
        """
        if self._decoder is None:
            data = data.lstrip()
            if not data:
                return []
            self._decoder = _Objects() if data.startswith(b"[") else _Events()
        if isinstance(self._decoder, _Objects):
            return self._decoder.feed(data)
        return [sse.data for sse in self._decoder.feed(data)]


class _Objects:
    """A decoder that extracts whole JSON objects from bytes, and skips the bytes between objects."""

    def __init__(self, max_size: int = MAX_EVENT) -> None:
        self._max_size = max_size
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_text = False
        self._escaped = False

    @property
    def inside(self) -> bool:
        return self._depth > 0

    def feed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        start = at = 0
        while at < len(data):
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            mark = (_INSIDE if self._in_text else _OUTSIDE).search(data, at)
            if mark is None:
                break
            at = mark.end()
            if not self._depth:
                start = mark.start()
            if self._ends(mark[0]):
                found.append(b"".join([*self._pieces, data[start:at]]))
                self._pieces, self._size = [], 0
        if self._depth:
            self._pieces.append(data[start:])
            self._size += len(data) - start
            if self._size > self._max_size:
                raise DialectError(
                    f"one response of the array is larger than the maximum of {self._max_size} bytes"
                )
        return found

    def _ends(self, mark: bytes) -> bool:
        """Process `mark`, a quote, brace or backslash in the stream. Return True if `mark` ends an outermost object."""
        if mark == b"\\":
            self._escaped = True
        elif mark == b'"':
            self._in_text = self._depth > 0 and not self._in_text
        elif mark == b"{":
            self._depth += 1
        elif self._depth:
            self._depth -= 1
            return not self._depth
        return False


class _Events(SSEDecoder):
    """A decoder of server-sent events that also accepts bare JSON objects between the events."""

    def __init__(self) -> None:
        super().__init__()
        self._objects = _Objects()

    def _line(self, line: bytes, events: list[SSE]) -> None:
        if not self._objects.inside and not line.startswith(b"{"):
            super()._line(line, events)
            return
        events += [SSE(found) for found in self._objects.feed(line + b"\n")]
        self._size = 0  # the size is counted by `_Objects`


_HEAD = b'{"candidates":[{"content":{"parts":['
_EMPTY = b'{"candidates": []}'


class Renderer(StreamRenderer):
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
        self._part: ResponsePart | None = None
        self._held: list[str] = []
        """The pieces of the current part's text. Used only for a part that is not written before it is complete."""
        self._blobs: tuple[Blob, ...] = ()
        self._behind = b""
        """The bytes to write after each piece of the current part's text; empty if the part is written when it is
        complete."""
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
                self._own = is_same_dialect(event.dialect, NAME)
                self._usage = event.usage
                self._extra = dict(event.extra or {}) if self._own else {}
                model = event.model or self._request.model
                self._about = {"modelVersion": model, "responseId": event.id or fresh_id("")}
                self._tail = b'],"role":"model"},"index":0}],' + encode_json(self._about)[1:]
                return b""
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> bytes:
        document = encode_json(render_error(failure))
        return self._item(document) + b"]" if self._array else document + b"\n"

    def keepalive(self, response_id: str = "") -> bytes:
        return b"\n" if self._array else self._item(_EMPTY)

    def _write(self, event: PartEvent) -> bytes:
        """Return the JSON of the Gemini parts that `event` adds to the answer, separated by commas."""
        match event:
            case PartDelta(text=text):
                self._characters += len(text)
                return self._text(text)
            case PartBlob(blob=blob):
                self._blobs += (blob,)
                return b""
            case PartStart(part=part):
                self._part, self._held, self._behind = part, [], b""
                if isinstance(part, Opaque):
                    return b"".join(map(encode_json, present([render_part(part, same_dialect=self._own)])))
                if isinstance(part, ToolCall):
                    self._calls = True
                    self._characters += len(part.name)
                    return self._text(part.arguments)
                self._refusal = self._refusal or isinstance(part, RefusalText)
                self._blobs = part.blobs if isinstance(part, Reasoning) else ()
                # On the wire, text with further fields, and a thought with a signature, are one part of their own.
                if not (self._own and part.extra) and not self._blobs:
                    self._behind = b',"thought":true}' if isinstance(part, Reasoning) else b"}"
                return self._text(part.text)
            case PartEnd():
                return b",".join(map(encode_json, self._whole("".join(self._held))))

    def _text(self, text: str) -> bytes:
        if not self._behind:
            self._held.append(text)
            return b""
        return b'{"text":' + encode_text(text) + self._behind if text else b""

    def _whole(self, text: str) -> list[dict[str, Json]]:
        """Return the Gemini parts for the current part, which has ended.

        `text` is the text of the current part; empty if this text was already written.
        """
        match self._part:
            case ToolCall() as call:
                whole = with_id(msgspec.structs.replace(call, arguments=text))
                return [render_call(whole, same_dialect=self._own)]
            case Reasoning(extra=extra):
                thought = Reasoning(text, self._blobs, extra)
                return render_reasoning(thought, same_dialect=self._own, answer=True)
            case Text(extra=extra) | RefusalText(extra=extra) if not self._behind:
                return present([render_part(Text(text, extra), same_dialect=True)])
            case _:
                return []

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
