"""Streamed answers of Messages, written.

Rules:

1. Every event has its name in an `event:` line: the official SDKs skip those without.
2. Blocks are strictly one after the other: what comes early is held back until its turn.
3. A text begins with its first character, so that there is no empty block, for agents send blocks back. A
   tool's block has at least one delta: one without is read as `{}` by some and lost by others.
4. The signature is the last delta of a thinking block, and is never empty.
5. `message_start` tells the input's tokens, estimated if need be; `message_delta` tells all, and supersedes
   it.
"""

from __future__ import annotations

from ..._canonical.content import Json, RefusalText, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import Usage
from ..._canonical.tokens import CHARACTERS_PER_TOKEN, estimate_input_tokens
from ..._sse import encode_sse
from .._documents import encode_json, is_same_dialect, merged
from .._failures import Failure
from .._ids import fresh_id
from .._parts_in_turn import PartEvent, PartSequence
from ..streams import StreamRenderer
from .ending import render_finish, render_usage
from .error import render_error
from .names import NAME
from .writers import BlockWriter, writer_of

__all__ = ["Renderer"]

_STOP = encode_sse(b'{"type":"message_stop"}', "message_stop")
_PING = encode_sse(b'{"type":"ping"}', "ping")


class Renderer(StreamRenderer):
    """Writes one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._own = True
        self._usage = Usage(input_tokens=0, output_tokens=0)
        self._number = 0  # of the next block on the wire
        self._current: int | None = None  # the part whose turn it is
        self._writer: BlockWriter | None = None
        self._sequence = PartSequence()
        self._calls = False
        self._refusal = False
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case PartDelta(index=index, text=text):
                self._characters += len(text)
                if self._writer and index == self._current:
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
        self._usage = event.usage or self._estimate()
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
        return _event({"type": "message_start", "message": message})

    def _part(self, event: PartEvent) -> bytes:
        if isinstance(event, PartStart):
            if isinstance(event.part, ToolCall):
                self._calls = True
                self._characters += len(event.part.name)
            self._refusal = self._refusal or isinstance(event.part, RefusalText)
        return b"".join([self._write(each) for each in self._sequence.add(event)])

    def _write(self, event: PartEvent) -> bytes:
        match event:
            case PartStart(index=index, part=part):
                self._current = index
                self._writer = writer_of(part, self._number, same_dialect=self._own)
                return self._writer.start(part)
            case PartDelta(text=text) if self._writer:
                return self._writer.text(text)
            case PartBlob(blob=blob) if self._writer:
                return self._writer.blob(blob)
            case PartEnd() if self._writer:
                data = self._writer.end()
                self._number = self._writer.number
                self._current = self._writer = None
                return data
            case _:
                return b""

    def _end(self, event: ResponseEnd) -> bytes:
        usage = event.usage or self._final_estimate()
        delta: dict[str, Json] = {
            "stop_reason": render_finish(event.stop_reason, calls=self._calls, refusal=self._refusal),
            "stop_sequence": event.stop_sequence,
        }
        extra = dict(event.extra or {}) if self._own else {}
        for name in ("stop_reason", "stop_details", "container"):
            if name in extra:
                delta[name] = extra.pop(name)
        document = {
            "type": "message_delta",
            "delta": delta,
            "usage": render_usage(usage, same_dialect=self._own),
        }
        return _event(merged(document, extra) if extra else document) + _STOP

    def _estimate(self) -> Usage:
        return Usage(input_tokens=estimate_input_tokens(self._request), output_tokens=1, estimated=True)

    def _final_estimate(self) -> Usage:
        if not self._usage.estimated:
            return self._usage
        output = max(1, self._characters // CHARACTERS_PER_TOKEN)
        return Usage(input_tokens=self._usage.input_tokens, output_tokens=output, estimated=True)


def _event(document: dict[str, Json]) -> bytes:
    return encode_sse(encode_json(document), document["type"])
