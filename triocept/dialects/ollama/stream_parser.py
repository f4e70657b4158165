"""Parser of streamed answers of `/api/chat`, one document per line; see `chunks`.

Rules:

1. A document with `error` is the provider's failure; an end before `done` is a truncation.
2. The last line may have no line end.
"""

from __future__ import annotations

import re
from contextlib import suppress

from ..._canonical.events import Event
from ...errors import DialectError
from .._documents import decode_json, hides_letters
from .._failures import error_of
from .._lines import LINE_FRAMES, LineDecoder
from ..streams import StreamParser
from .chunks import Chunks
from .error import find_error, parse_error

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
