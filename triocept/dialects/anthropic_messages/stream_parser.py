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

from ..._canonical.content import Blob, Json, Opaque, Reasoning, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.response import ResponsePart
from ..._util.sse import SSEDecoder, events_pattern
from ...errors import DialectError, UpstreamTruncated
from .._calls import object_of
from .._documents import Fields, decode_json, encode_json, hides_letters, known_of, types_come_first
from .._failures import error_of
from ..streams import StreamParser
from .parts import NAME, parse_block, signature_blobs
from .response import parse_error, parse_finish, parse_usage

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


CITATIONS = "citations"
_TEXT_OF = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class _Block:
    """A block that is being written."""

    __slots__ = ("index", "json", "raw", "start", "texts", "written")

    def __init__(self, start: ResponsePart, index: int, raw: dict[str, Json]) -> None:
        self.start = start
        self.index = index
        self.raw = raw  # the fields of an opaque block so far
        self.json: list[str] = []  # the input of an opaque block
        self.texts: dict[str, list[str]] = {}  # the pieces of text fields that deltas extend
        self.written = False


class Blocks:
    """A builder of parts: it takes the events of blocks, and appends the events of parts."""

    def __init__(self) -> None:
        self._open: dict[int, _Block] = {}
        self._next = 0
        self.calls: bool = False
        """True if a tool of the agent is called."""

    def start(self, fields: Fields, events: list[Event]) -> None:
        number, raw = fields.need_integer("index"), fields.mapping("content_block") or {}
        part = parse_block(raw, fields.at("content_block"))
        if not isinstance(part, Text | Reasoning | ToolCall):
            part = Opaque(NAME, raw)
        self._open[number] = block = _Block(part, self._next, dict(raw))
        self._next += 1
        match part:
            case ToolCall(arguments=arguments):
                self.calls = True
                # A server that sends the whole input at the start sends no deltas: the input is written at the stop.
                block.json = [] if arguments == "{}" else [arguments]
                start = ToolCall(part.name, "", part.id, extra=part.extra)
                events.append(PartStart(block.index, start))
            case Text(text=text, extra=extra):
                known = known_of(extra)
                citations = known.pop(CITATIONS, None) or ()
                events.append(PartStart(block.index, Text("", known or None)))
                self._write(block, text, events)
                events += [PartBlob(block.index, _citation(item)) for item in citations]
            case Reasoning(text=text, blobs=blobs, extra=extra):
                events.append(PartStart(block.index, Reasoning("", (), extra)))
                self._write(block, text, events)
                events += [PartBlob(block.index, blob) for blob in blobs]

    def delta(self, fields: Fields, events: list[Event]) -> None:
        number = fields.need_integer("index")
        block = self._open.get(number)
        if block is None:
            raise DialectError(f"block {number} is not open", path="index")
        delta = fields.need_object("delta")
        kind = delta.need_text("type")
        if isinstance(block.start, Opaque):
            _add(block, kind, delta)
        elif kind in _TEXT_OF:
            self._write(block, delta.text(_TEXT_OF[kind]) or "", events)
        elif kind == "signature_delta":
            blobs = signature_blobs(delta.text("signature"))
            events += [PartBlob(block.index, blob) for blob in blobs]
        elif kind == "citations_delta":
            events.append(PartBlob(block.index, _citation(delta.take("citation"))))

    def stop(self, fields: Fields, events: list[Event]) -> None:
        number = fields.need_integer("index")
        block = self._open.pop(number, None)
        if block is not None:
            self._finish(block, events)

    def close(self, events: list[Event]) -> None:
        """End all blocks: the message is complete."""
        for block in self._open.values():
            self._finish(block, events)
        self._open.clear()

    def _write(self, block: _Block, text: str, events: list[Event]) -> None:
        if text:
            block.written = True
            events.append(PartDelta(block.index, text))

    def _finish(self, block: _Block, events: list[Event]) -> None:
        if isinstance(block.start, Opaque):
            if block.json:
                block.raw["input"] = object_of("".join(block.json))
            block.raw |= {name: "".join(pieces) for name, pieces in block.texts.items()}
            events.append(PartStart(block.index, Opaque(NAME, block.raw)))
        elif isinstance(block.start, ToolCall) and not block.written:
            self._write(block, "".join(block.json) or "{}", events)
        events.append(PartEnd(block.index))


def _add(block: _Block, kind: str, delta: Fields) -> None:
    """Add one delta to an opaque block: append texts, and keep other values as they are."""
    if kind == "input_json_delta":
        block.json.append(delta.text("partial_json") or "")
        return
    if kind == "citations_delta":
        block.raw.setdefault(CITATIONS, []).append(delta.take("citation"))
        return
    for name, value in (delta.rest() or {}).items():
        known = block.raw.get(name)
        if isinstance(known, str) and isinstance(value, str):
            block.texts.setdefault(name, [known]).append(value)
        else:
            block.raw[name] = value
            block.texts.pop(name, None)


def _citation(value: Json) -> Blob:
    return Blob(NAME, CITATIONS, encode_json(value).decode())
