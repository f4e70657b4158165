"""Streamed answers of completions, read.

Grammar::

    stream := chunk* finish-chunk chunk* ("[DONE]" | end of bytes)

Rules:

1. A chunk may have no choice, and a choice no text.
2. Usage may come in any chunk; the last one counts. So `ResponseEnd` waits for `[DONE]` or the end of the bytes.
3. What a chunk has beside is gathered into the `extra` of `ResponseEnd`, in the form of a whole answer's: the lists of
   `logprobs` go on.
4. An error object in place of a chunk is the provider's failure; an end without a finish reason is a truncation.
"""

from __future__ import annotations

from ..._canonical.content import Json, Text
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.response import Usage
from ..._sse import SSE, SSEDecoder
from ...errors import UpstreamTruncated
from .._failures import error_of
from .._fields import Fields
from .._gather import gather
from .._json import decode_json
from ..base import StreamParser
from .error import find_error, parse_error
from .finish import parse_finish
from .names import NAME
from .response import MATCHED
from .usage import parse_usage

__all__ = ["Parser"]


class Parser(StreamParser):
    """Reads one streamed answer."""

    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._started = False
        self._done = False
        self._open = False
        self._finish: str | None = None
        self._matched: str | None = None
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done:
                self._take(sse, events)
        return events

    @property
    def ending(self) -> bool:
        return self._finish is not None

    def close(self) -> list[Event]:
        if self._done:
            return []
        if self._finish is None:
            raise UpstreamTruncated("the provider's stream ended without a finish reason")
        events: list[Event] = []
        self._end(events)
        return events

    def _take(self, sse: SSE, events: list[Event]) -> None:
        if sse.data.strip() == b"[DONE]":
            events += self.close()
            return
        chunk = decode_json(sse.data)
        if find_error(chunk) is not None:
            raise error_of(parse_error(0, chunk), body=sse.data.decode("utf-8", "replace"))
        fields = Fields(chunk)
        self._start(fields, events)
        self._usage = parse_usage(fields.take("usage"), "usage") or self._usage
        for path, item in fields.items("choices"):
            self._choice(Fields(item, path), events)
        gather(self._extra, fields.rest() or {})

    def _start(self, fields: Fields, events: list[Event]) -> None:
        identity, model = fields.text("id"), fields.text("model")
        fields.take("object")
        fields.take("created")
        if not self._started and (identity or model or fields.peek("choices")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=NAME))

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if choice.integer("index"):
            return  # several choices were not asked for
        text = choice.text("text")
        if text:
            if not self._open:
                self._open = True
                events.append(PartStart(0, Text("")))
            events.append(PartDelta(0, text))
        reason = choice.take("finish_reason")
        for name in MATCHED:
            if isinstance(choice.peek(name), str):
                self._matched = choice.need_text(name)
        if reason:
            self._finish = str(reason)
        left = {name: value for name, value in (choice.rest() or {}).items() if value is not None}
        if left:
            gather(self._extra.setdefault("choices", [{}])[0], left)

    def _end(self, events: list[Event]) -> None:
        self._done = True
        stop, sequence = parse_finish(self._finish, self._matched)
        if self._matched is not None and sequence is None:
            gather(self._extra.setdefault("choices", [{}])[0], {MATCHED[0]: self._matched})
        if self._open:
            events.append(PartEnd(0))
        events.append(
            ResponseEnd(
                stop_reason=stop, stop_sequence=sequence, usage=self._usage, extra=self._extra or None
            )
        )
