"""Builder of parts from the content blocks of a stream."""

from __future__ import annotations

from ..._canonical.content import Blob, Json, Opaque, Reasoning, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart
from ..._canonical.response import ResponsePart
from ...errors import DialectError
from .._arguments import object_of
from .._documents import Fields, encode_json, known_of
from .names import NAME
from .parts import parse_block
from .reasoning import signature_blobs

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
        block = self._at(fields)
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

    def _at(self, fields: Fields) -> _Block:
        number = fields.need_integer("index")
        try:
            return self._open[number]
        except KeyError:
            raise DialectError(f"block {number} is not open", path="index") from None

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
