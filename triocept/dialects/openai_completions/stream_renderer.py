"""Renderer of streamed answers of completions.

Rules:

1. A stream is chunks of text, exactly one finish chunk, the usage chunk on request, and `[DONE]`.
2. An echoed prompt is the first chunk (see `response`).
3. Reasoning is left out; a tool call cannot be expressed, and raises an error.
"""

from __future__ import annotations

from ..._canonical.content import Json, RefusalText, Text
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart
from .._documents import encode_text, merged
from ..openai_chat.chunks import ChunkRenderer
from ..openai_chat.ending import render_finish
from ..openai_chat.response import MATCHED
from .error import render_error
from .names import NAME
from .response import echo_of, render_part

_BEFORE = b'"choices":[{"text":'
_BEHIND = b',"index":0,"logprobs":null,"finish_reason":null}]}\n\n'


class Renderer(ChunkRenderer):
    """A renderer of one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, NAME, "text_completion", "cmpl-", render_error)
        self._texts: set[int] = set()  # the open parts that are text

    def render(self, event: Event) -> bytes:
        """Return the bytes that `event` adds to the body.

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

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head(response_id, "")
        return self._chunk("")

    def _start(self, event: ResponseStart) -> bytes:
        self._begin(event)
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
        finish = render_finish(event.stop_reason, calls=False, refusal=False)
        choice: dict[str, Json] = {"text": "", "index": 0, "logprobs": None, "finish_reason": finish}
        if event.stop_sequence is not None:
            choice[MATCHED[0]] = event.stop_sequence
        document: dict[str, Json] = {"choices": [choice]}
        data = self._line(merged(document, event.extra) if self._own and event.extra else document)
        return data + self._tail(event.usage)

    def _chunk(self, text: str) -> bytes:
        return self._head + _BEFORE + encode_text(text) + _BEHIND
