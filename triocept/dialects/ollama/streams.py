"""Parser and renderer of streamed answers of `/api/chat`, one document per line.

Parser (see `Chunks`):

1. A document with `error` is the provider's failure; an end before `done` is a truncation.
2. The last line may have no line end.

Renderer:

1. There are no empty lines: the official Python client crashes on one.
2. Parts come strictly one after the other. Text is written at once; a call is written when it is whole, for the wire
   has no fragments of calls.
3. The last document has the reason, the usage, estimated if unknown, and further fields of the answer.
4. A keepalive is a document with empty content.
"""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from ..._canonical.content import Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import Usage
from ..._canonical.tokens import estimate_streamed
from ...errors import DialectError
from .._documents import decode_json, encode_json, encode_text, hides_letters, is_same_dialect, merged
from .._failures import Failure, error_of
from ..streams import (
    LINE_FRAMES,
    LineDecoder,
    PartEvent,
    PartSequence,
    StreamParser,
    StreamRenderer,
    encode_line,
)
from .messages import NAME, render_parts
from .response import Chunks, find_error, now, parse_error, render_error, render_finish, render_usage

_LINES = re.compile(
    rb'(?:\{"model":[^\r\n]*+(?<=\})(?:\r\n|\n))++'
)  # Ollama begins each document in this form
_DOUBT = re.compile(rb'"(?:error"|tool_calls"|done"\s*+:\s*+(?!false))')


class Parser(StreamParser):
    """A parser of one streamed answer."""

    frame_end = LINE_FRAMES

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._chunks = Chunks()

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.feed(data):
            self._take(line, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _LINES.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._chunks.done

    def close(self) -> list[Event]:
        events: list[Event] = []
        if not self._chunks.done:
            for line in self._lines.close():
                with suppress(DialectError):  # an incomplete document is skipped
                    self._take(line, events)
            self._chunks.close()
        return events

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._chunks.done:
            return
        document = decode_json(line)
        if find_error(document) is not None:
            raise error_of(parse_error(0, document), body=line.decode("utf-8", "replace"))
        self._chunks.take(document, events)


_TEXT = b'{"role":"assistant","content":'
_THINKING = b'{"role":"assistant","content":"","thinking":'
_BEHIND = b'},"done":false}\n'


class Renderer(StreamRenderer):
    """A renderer of one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._own = True
        self._head = b""
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}
        self._sequence = PartSequence()
        self._before: bytes | None = None
        """The bytes before a delta of the current part; None if the part is not text."""
        self._call: ToolCall | None = None
        self._held: list[str] = []
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)
            case _:
                return b"".join([self._part(each) for each in self._sequence.add(event)])

    def fail(self, failure: Failure) -> bytes:
        return encode_line(render_error(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head("")
        return self._head + _TEXT + b'""' + _BEHIND

    def _start(self, event: ResponseStart) -> bytes:
        self._own = is_same_dialect(event.dialect, NAME)
        self._usage = event.usage
        self._extra = dict(event.extra or {}) if self._own else {}
        self._open_head(event.model)
        return b""

    def _open_head(self, model: str) -> None:
        if not self._head:
            self._head = encode_json(self._about(model))[:-1] + b',"message":'

    def _about(self, model: str) -> dict[str, Json]:
        self._model = model or self._request.model
        return {"model": self._model, "created_at": now()}

    def _part(self, event: PartEvent) -> bytes:
        match event:
            case PartDelta(text=text):
                return self._text(text)
            case PartStart(part=Text(text=text) | RefusalText(text=text)):
                self._before = self._head + _TEXT
                return self._text(text)
            case PartStart(part=Reasoning(text=text)):
                self._before = self._head + _THINKING
                return self._text(text)
            case PartStart(part=ToolCall() as call):
                self._call, self._held = call, [call.arguments]
                self._characters += len(call.name) + len(call.arguments)
            case PartEnd():
                ended, self._call, self._before = self._call, None, None
                if ended is not None:
                    whole = msgspec.structs.replace(ended, arguments="".join(self._held))
                    message = {"role": "assistant", **render_parts([whole], same_dialect=self._own)}
                    return self._head + encode_json(message)[:-1] + _BEHIND
        return b""

    def _text(self, text: str) -> bytes:
        self._characters += len(text)
        if self._call is not None:
            self._held.append(text)
        if self._before is None or not text:
            return b""
        return self._before + encode_text(text) + _BEHIND

    def _end(self, event: ResponseEnd) -> bytes:
        usage = event.usage or self._usage or estimate_streamed(self._request, self._characters)
        document: dict[str, Json] = {
            **self._about(self._model),
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": render_finish(event.stop_reason),
            **render_usage(usage),
        }
        extra = {**self._extra, **(event.extra or {})} if self._own else {}
        return encode_line(merged(document, extra) if extra else document)
