"""Streamed answers of completions, written.

Rules:

1. Chunks of text, exactly one finish chunk, the usage chunk where it was asked for, `[DONE]`.
2. Id, `created` and model are the same in all chunks.
3. An echoed prompt is the first chunk (see `response`).
4. Reasoning is left out; a tool call cannot be said: that is an error.
"""

from __future__ import annotations

import time

from ..._canonical.content import Json, RefusalText, Text
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import CHARACTERS_PER_TOKEN, estimate_input_tokens
from .._fields import merged
from .._ids import fresh_id
from .._json import encode_json, encode_text
from ..base import Failure, StreamRenderer
from .error import render_error
from .finish import render_finish
from .names import is_own
from .response import MATCHED, echo_of, render_part
from .usage import render_usage

__all__ = ["Renderer"]

_DONE = b"data: [DONE]\n\n"
_BEFORE = b'"choices":[{"text":'
_BEHIND = b',"index":0,"logprobs":null,"finish_reason":null}]}\n\n'


class Renderer(StreamRenderer):
    """Writes one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._own = True
        self._head = b""
        self._start_usage: Usage | None = None
        self._texts: set[int] = set()  # the open parts that are text
        self._characters = 0

    def render(self, event: Event) -> bytes:
        """As in `StreamRenderer`.

        Raises:
            DialectError: the part is a tool call.
        """
        match event:
            case PartDelta(index=index, text=text):
                return self._text(text) if index in self._texts else b""
            case PartStart(index=index, part=part):
                return self._part(index, part)
            case PartEnd(index=index):
                self._texts.discard(index)
                return b""
            case PartBlob():
                return b""
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> bytes:
        return b"data: " + encode_json(render_error(failure)) + b"\n\n"

    def keepalive(self, response_id: str = "") -> bytes:
        if not self._head:
            self._open_head(response_id, "")
        return self._chunk("")

    def _start(self, event: ResponseStart) -> bytes:
        self._own = is_own(event.dialect)
        self._start_usage = event.usage
        if not self._head:  # else a keepalive came first, and its id stays
            self._open_head(event.id, event.model)
        echo = echo_of(self._request, event.dialect)
        data = self._chunk(echo) if echo else b""
        if self._own and event.extra:
            data += self._line({**event.extra, "choices": []})
        return data

    def _part(self, index: int, part: ResponsePart) -> bytes:
        text = render_part(part)
        if not isinstance(part, Text | RefusalText):
            return b""
        self._texts.add(index)
        return self._text(text)

    def _text(self, text: str) -> bytes:
        self._characters += len(text)
        return self._chunk(text) if text else b""

    def _end(self, event: ResponseEnd) -> bytes:
        finish = render_finish(event.stop_reason)
        choice: dict[str, Json] = {"text": "", "index": 0, "logprobs": None, "finish_reason": finish}
        if event.stop_sequence is not None:
            choice[MATCHED[0]] = event.stop_sequence
        document: dict[str, Json] = {"choices": [choice]}
        data = self._line(merged(document, event.extra) if self._own and event.extra else document)
        if self._request.include_usage:
            usage = event.usage or self._start_usage or self._estimate()
            data += self._line({"choices": [], "usage": render_usage(usage, own=self._own)})
        return data + _DONE

    def _estimate(self) -> Usage:
        return Usage(
            input_tokens=estimate_input_tokens(self._request),
            output_tokens=max(1, self._characters // CHARACTERS_PER_TOKEN),
            estimated=True,
        )

    def _open_head(self, identity: str, model: str) -> None:
        fields = {
            "id": identity or fresh_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": model or self._request.model,
        }
        self._head = b"data: " + encode_json(fields)[:-1] + b","

    def _chunk(self, text: str) -> bytes:
        return self._head + _BEFORE + encode_text(text) + _BEHIND

    def _line(self, fields: dict[str, Json]) -> bytes:
        return self._head + encode_json(fields)[1:] + b"\n\n"
