"""Parser of streamed answers of Messages.

Grammar::

    stream := message_start ( block_start block_delta* block_stop )* message_delta+ message_stop ; ping
    anywhere

Rules:

1. The `type` in an event's data determines its kind, not the event's name. Unknown events are skipped.
2. Blocks may overlap (llama.cpp's do), and their numbers may have gaps.
3. An unknown block is held until it is whole, and becomes one opaque part.
4. `message_delta` supersedes the numbers of `message_start`.
5. `error` is the provider's failure; an end without `message_stop` is a truncation.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.events import Event, ResponseEnd, ResponseStart
from ..._util.sse import SSEDecoder, events_pattern
from ...errors import UpstreamTruncated
from .._documents import Fields, decode_json, hides_letters, known_of, types_come_first
from .._failures import error_of
from ..streams import StreamParser
from .blocks import Blocks
from .ending import parse_finish, parse_usage
from .error import parse_error
from .names import NAME

_CONTENT = events_pattern(rb'\{"type": ?"content_block_delta",', rb"content_block_delta")


class Parser(StreamParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._blocks = Blocks()
        self._done = False
        self._usage: dict[str, Json] = {}
        self._reason: str | None = None
        self._sequence: str | None = None
        self._extra: dict[str, Json] = {}

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done:
                self._take(decode_json(sse.data), sse.data, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CONTENT.fullmatch(data) is not None
        return whole and types_come_first(data) and b'"stop_reason"' not in data and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._reason is not None

    def close(self) -> list[Event]:
        if not self._done:
            raise UpstreamTruncated("the provider's stream ended without message_stop")
        return []

    def _take(self, document: Json, data: bytes, events: list[Event]) -> None:
        fields = Fields(document)
        match fields.text("type"):
            case "content_block_delta":
                self._blocks.delta(fields, events)
            case "content_block_start":
                self._blocks.start(fields, events)
            case "content_block_stop":
                self._blocks.stop(fields, events)
            case "message_start":
                self._start(fields.need_object("message"), events)
            case "message_delta":
                self._delta(fields)
            case "message_stop":
                self._end(events)
            case "error":
                raise error_of(parse_error(0, document), body=data.decode("utf-8", "replace"))
            case None if fields.peek("error"):
                raise error_of(parse_error(0, document), body=data.decode("utf-8", "replace"))
            case _:
                pass

    def _start(self, message: Fields, events: list[Event]) -> None:
        identity, model = message.text("id") or "", message.text("model") or ""
        self._count(message.take("usage"))
        for known in ("type", "role", "content", "stop_reason", "stop_sequence"):
            message.take(known)
        extra = known_of(message.rest()) or None
        usage = parse_usage(self._usage, "message.usage")
        events.append(ResponseStart(id=identity, model=model, usage=usage, extra=extra, dialect=NAME))

    def _delta(self, fields: Fields) -> None:
        delta = fields.object("delta") or Fields({})
        self._reason = delta.text("stop_reason") or self._reason
        self._sequence = delta.text("stop_sequence") or self._sequence
        self._count(fields.take("usage"))
        self._extra |= known_of(delta.rest())
        self._extra |= known_of(fields.rest())

    def _count(self, usage: Json) -> None:
        self._usage |= known_of(usage if isinstance(usage, dict) else None)

    def _end(self, events: list[Event]) -> None:
        if self._reason is None:
            raise UpstreamTruncated("the provider's stream ended without a stop reason")
        self._done = True
        self._blocks.close(events)
        stop, kept = parse_finish(self._reason, calls=self._blocks.calls)
        events.append(
            ResponseEnd(
                stop_reason=stop,
                stop_sequence=self._sequence,
                usage=parse_usage(self._usage, "usage"),
                extra={**self._extra, **kept} or None,
            )
        )
