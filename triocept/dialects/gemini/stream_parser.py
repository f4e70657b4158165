"""Streamed answers of generateContent, read.

Grammar::

    stream := response* response-with-finishReason response*   as server-sent events, or as a JSON array

Rules:

1. What the responses say is in `chunks`, how they are framed in `framing`.
2. There is no terminal event but the finish reason: an end without one is a truncation. Usage may come behind it, so
   `ResponseEnd` waits for the end of the bytes.
3. An error object in place of a response is the provider's failure.
"""

from __future__ import annotations

import re

from ..._canonical.events import Event
from ..._sse import events_pattern
from .._failures import error_of
from .._json import decode_json, hides_letters
from ..streams import StreamParser
from .chunks import Chunks
from .error import find_error, parse_error
from .framing import Framing

__all__ = ["Parser"]

_CHUNKS = events_pattern(rb"\{")
# Protobuf reads both spellings.
_DOUBT = re.compile(
    rb'"(?:error|finishReason|finish_reason|blockReason|block_reason|functionCall|function_call)"'
)


class Parser(StreamParser):
    """Reads one streamed answer."""

    def __init__(self) -> None:
        self._framing = Framing()
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
        for document in self._framing.close():
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
