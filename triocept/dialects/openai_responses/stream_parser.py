"""Parser of streamed answers of the Responses API.

Rules:

1. The `type` in an event's data determines the kind of event. If `type` is missing, the event's name determines the
   kind. Unknown events are skipped. Sequence numbers are ignored, because some servers leave the numbers out.
2. Items may overlap, the indexes of items may be missing, and an item may come complete in one event (see `Parts`).
3. `completed` and `incomplete` end the answer. `failed` and `error` mean that the provider failed. A stream without any
   of these four events was truncated.
4. Further fields of the response are read from the terminal event.

An event belongs to the item with the event's `output_index`. An event without `output_index` (from llama.cpp) belongs
to the item with the event's `item_id`. An event without both belongs to the newest item. Content that did not come in
deltas is read from the events that end a text or an item: `done` contains the whole text, and `output_item.done`
contains the whole item. An `output_item.done` may come without an `output_item.added`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import (
    Event,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    part_events,
)
from ..._canonical.response import ResponsePart
from ..._util.sse import SSE, SSEDecoder, events_pattern
from ...errors import UpstreamTruncated
from .._documents import Fields, decode_json, encode_json, hides_letters, types_come_first
from .._failures import error_of
from ..streams import StreamParser
from .items import ENCRYPTED, parse_item, parse_output_text
from .response import answer_extra, find_error, parse_error, parse_finish, parse_usage
from .tools import NAME, NO_NAMES

_PREFIX = "response."
# The kind of text -> the part as it begins, and the name of its position in the item.
_TEXTS: dict[str, tuple[ResponsePart, str]] = {
    "output_text": (Text(""), "content_index"),
    "refusal": (RefusalText(""), "content_index"),
    "reasoning_summary_text": (Reasoning(), "summary_index"),
    "reasoning_text": (Reasoning(), "content_index"),
}
_CALLS = ("function_call_arguments.delta", "custom_tool_call_input.delta")
_CONTENT = events_pattern(rb'\{"type": ?"response\.[a-z_]+\.delta",', rb"response\.[a-z_]+\.delta")


class Parser(StreamParser):
    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._parts = Parts()
        self._started = False
        self._done = False

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done and sse.data.strip() != b"[DONE]":
                self._take(sse, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CONTENT.fullmatch(data) is not None
        return whole and types_come_first(data) and b'"error"' not in data and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._done

    def close(self) -> list[Event]:
        if not self._done:
            raise UpstreamTruncated("the provider's stream ended without response.completed")
        return []

    def _take(self, sse: SSE, events: list[Event]) -> None:
        document = decode_json(sse.data)
        fields = Fields(document)
        kind = fields.text("type") or sse.event
        if kind in ("error", "response.failed") or find_error(document) is not None:
            document = {**document, "type": kind}
            raise error_of(parse_error(0, document), body=sse.data.decode("utf-8", "replace"))
        name = kind.removeprefix(_PREFIX)
        if name in ("created", "queued", "in_progress"):
            self._start(fields.object("response"), events)
        elif name in ("completed", "incomplete", "cancelled", "done"):
            self._end(name, fields.need_object("response"), events)
        elif name != kind:
            self._item(name, fields, events)

    def _item(self, name: str, fields: Fields, events: list[Event]) -> None:
        known: dict[str, Callable[[Fields, list[Event]], None]] = {
            "output_item.added": self._parts.added,
            "output_item.done": self._parts.done,
            "content_part.added": self._parts.part_added,
            "output_text.annotation.added": self._parts.annotated,
        }
        subject, _, verb = name.rpartition(".")
        if subject in _TEXTS and verb == "delta":
            self._parts.delta(fields, *_TEXTS[subject], events)
        elif name in _CALLS:
            self._parts.call_delta(fields, events)
        elif subject in _TEXTS and verb == "done":
            self._parts.text_done(fields, *_TEXTS[subject], events)
        elif name in known:
            self._start(None, events)
            known[name](fields, events)

    def _start(self, response: Fields | None, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        response = response or Fields({})
        identity, model = response.text("id") or "", response.text("model") or ""
        events.append(ResponseStart(id=identity, model=model, dialect=NAME))

    def _end(self, name: str, response: Fields, events: list[Event]) -> None:
        status = response.text("status") or name
        self._start(Fields({known: response.peek(known) for known in ("id", "model")}), events)
        if not self._parts.any:
            self._parts.output(response, events)
        self._parts.close(events)
        details = response.object("incomplete_details")
        stop, kept = parse_finish(status, details, calls=self._parts.calls, refusal=self._parts.refusal)
        usage = parse_usage(response.take("usage"), "response.usage")
        for known in ("id", "model"):
            response.take(known)
        extra: dict[str, Json] = {**answer_extra(response), **kept}
        self._done = True
        events.append(ResponseEnd(stop_reason=stop, usage=usage, extra=extra or None))


class _Item:
    """An output item of which the parser has received a part."""

    __slots__ = (
        *("head", "id", "index", "kind", "lists", "number", "open", "part", "parts", "path", "place", "raw"),
        "written",
    )

    def __init__(self, raw: dict[str, Json], path: str, number: int) -> None:
        self.raw = raw
        self.path = path
        self.number = number
        self.open = True
        self.kind = raw.get("type") or "message"
        self.id: Json = raw.get("id")
        content = ("summary", "content", ENCRYPTED) if self.kind == "reasoning" else ("role", "content")
        self.head: dict[str, Json] = {
            name: value for name, value in raw.items() if name not in ("type", "status", *content)
        }
        """The item's fields except `type`, `status` and the content."""
        self.parts = 0
        """The number of parts of the item that have begun."""
        self.index: int | None = None  # the index of the open part
        self.part: ResponsePart | None = None
        self.place: tuple[str, int] = ("", 0)
        self.written = 0
        self.lists = False


class Parts:
    """A converter of a stream's item events to part events. Its methods append the part events to the list `events`."""

    def __init__(self) -> None:
        self._open: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._newest: list[_Item] = []  # the open items, the newest last; may contain closed ones
        self._next_item = 0
        self._next_part = 0
        self.calls: bool = False
        """True if the answer calls a tool of the agent."""
        self.refusal: bool = False
        """True if the answer contains the text of a refusal."""
        self.any: bool = False
        """True if the answer contains an item."""

    def added(self, fields: Fields, events: list[Event]) -> None:
        number, raw = fields.integer("output_index"), fields.mapping("item")
        if raw is not None:  # some providers leave the item out
            self._add(number, raw, fields.at("item"), events)

    def part_added(self, fields: Fields, events: list[Event]) -> None:
        """Process an event `content_part.added`. Ignore an event that does not belong to a message item."""
        item = self._find(fields)
        part = fields.object("part")
        if item is None or item.kind != "message" or part is None:
            return
        if (part.peek("type") or "output_text") not in ("output_text", "text", "refusal"):
            return
        start = parse_output_text(part)
        text = start.text
        place = ("content_index", fields.integer("content_index") or 0)
        self._continue(item, msgspec.structs.replace(start, text=""), place, events)
        self._write(item, text, events)

    def delta(self, fields: Fields, empty: ResponsePart, place: str, events: list[Event]) -> None:
        """Process an event with a delta of a text.

        If no earlier event has begun the part of this text, begin the part with `empty`.
        """
        item = self._find(fields)
        if item is None:
            return
        self._continue(item, empty, (place, fields.integer(place) or 0), events)
        self._write(item, fields.text("delta") or "", events)
        self._logprobs(item, fields, events)

    def call_delta(self, fields: Fields, events: list[Event]) -> None:
        item = self._find(fields)
        if item is not None and item.index is not None:
            self._write(item, fields.text("delta") or "", events)

    def text_done(self, fields: Fields, empty: ResponsePart, place: str, events: list[Event]) -> None:
        """Process an event with the complete text of a part."""
        item = self._find(fields)
        if item is None:
            return
        text = fields.text("refusal" if isinstance(empty, RefusalText) else "text") or ""
        at = (place, fields.integer(place) or 0)
        if text or item.place == at:
            self._continue(item, empty, at, events)
            self._write(item, text[item.written :], events)
            if not item.lists:
                self._logprobs(item, fields, events)

    def annotated(self, fields: Fields, events: list[Event]) -> None:
        item, value = self._find(fields), fields.take("annotation")
        if item is not None and item.index is not None and value is not None:
            events.append(PartBlob(item.index, _blob("annotations", value)))

    def done(self, fields: Fields, events: list[Event]) -> None:
        """Process an event `output_item.done`: append content that no earlier event contained, and end the item."""
        raw = fields.mapping("item")
        if raw is None:
            return
        item = self._find(fields, identity=raw.get("id"))
        if item is None or item.kind != (raw.get("type") or "message"):
            item = self._add(None, raw, fields.at("item"), events)
        self.whole(item, raw, fields.at("item"), events)
        self._close(item)

    def whole(self, item: _Item, raw: dict[str, Json], path: str, events: list[Event]) -> None:
        """Process a complete item, `raw`: append the events of the content that no earlier event contained."""
        parts = parse_item(raw, path, NO_NAMES, answer=True)
        for number, part in enumerate(parts):
            if number >= item.parts:
                self._end_part(item, events)
                events += part_events(self._new_index(item, part), part)
            elif number == item.parts - 1 and item.index is not None and not isinstance(part, Opaque):
                text = part.arguments if isinstance(part, ToolCall) else part.text
                self._write(item, text[item.written :], events)
                if isinstance(part, Reasoning):
                    events += [PartBlob(item.index, blob) for blob in part.blobs]
        self._end_part(item, events)

    def output(self, fields: Fields, events: list[Event]) -> None:
        """Process the output in the terminal event, for a stream without item events."""
        for path, value in fields.items("output"):
            raw = Fields(value, path).rest() or {}
            self.whole(self._add(None, raw, path, events), raw, path, events)
        self._close_all()

    def close(self, events: list[Event]) -> None:
        for item in self._open.values():
            if not item.parts and item.kind != "message":
                self.whole(item, item.raw, item.path, events)
            self._end_part(item, events)
        self._close_all()

    def _add(self, number: int | None, raw: dict[str, Json], path: str, events: list[Event]) -> _Item:
        number = self._next_item if number is None else number
        item = _Item(raw, path, number)
        self._next_item = max(self._next_item, number) + 1
        self._open[number] = item
        self._newest.append(item)
        if isinstance(item.id, str):
            self._by_id.setdefault(item.id, item)
        self.any = True
        if item.kind in ("function_call", "custom_tool_call"):
            (call,) = parse_item(raw, path, NO_NAMES, answer=True)
            if isinstance(call, ToolCall):
                text = call.arguments if raw.get("arguments") or raw.get("input") else ""
                self._begin(item, msgspec.structs.replace(call, arguments=""), ("", 0), events)
                self._write(item, text, events)
        return item

    def _find(self, fields: Fields, identity: Json = None) -> _Item | None:
        number, named = fields.integer("output_index"), fields.text("item_id") or identity
        if number is not None:
            return self._open.get(number)
        if named is not None:
            return self._by_id.get(named) if isinstance(named, str) else None
        while self._newest and not self._newest[-1].open:
            self._newest.pop()
        return self._newest[-1] if self._newest else None

    def _close(self, item: _Item) -> None:
        item.open = False
        if self._open.get(item.number) is item:
            del self._open[item.number]
        if isinstance(item.id, str) and self._by_id.get(item.id) is item:
            del self._by_id[item.id]

    def _close_all(self) -> None:
        for item in list(self._open.values()):
            self._close(item)

    def _continue(
        self, item: _Item, empty: ResponsePart, place: tuple[str, int], events: list[Event]
    ) -> None:
        """Make the part at `place` the open part of `item`.

        If this part is not open yet, end the open part, if there is one, and begin a part with the content of `empty`.
        """
        if item.part is None or item.place != place:
            self._end_part(item, events)
            name, number = place
            # A part has the fields of its position in the item, as in an item that is not streamed.
            extra: dict[str, Json] = {name: number} if number else {}
            if isinstance(empty, Reasoning) and name == "content_index":
                extra = {name: number}
            if not item.parts and (item.head or extra):
                extra = {"item": item.head, **extra}
            if extra and not isinstance(empty, Opaque):
                empty = msgspec.structs.replace(empty, extra={**extra, **(empty.extra or {})})
            self._begin(item, empty, place, events)

    def _begin(self, item: _Item, part: ResponsePart, place: tuple[str, int], events: list[Event]) -> None:
        item.index, item.part, item.place = self._new_index(item, part), part, place
        item.written, item.lists = 0, False
        events.append(PartStart(item.index, part))

    def _new_index(self, item: _Item, part: ResponsePart) -> int:
        """Count a part that begins in `item`, and return the part's index in the answer."""
        item.parts += 1
        self.calls = self.calls or isinstance(part, ToolCall)
        self.refusal = self.refusal or isinstance(part, RefusalText)
        self._next_part += 1
        return self._next_part - 1

    def _write(self, item: _Item, text: str, events: list[Event]) -> None:
        if text and item.index is not None:
            item.written += len(text)
            events.append(PartDelta(item.index, text))

    def _logprobs(self, item: _Item, fields: Fields, events: list[Event]) -> None:
        index = item.index
        values = [value for _, value in fields.items("logprobs")]
        if values and index is not None and isinstance(item.part, Text):
            item.lists = True
            events += [PartBlob(index, _blob("logprobs", value)) for value in values]

    def _end_part(self, item: _Item, events: list[Event]) -> None:
        if item.index is not None:
            if isinstance(item.part, ToolCall) and item.part.kind == "json" and not item.written:
                self._write(item, "{}", events)
            events.append(PartEnd(item.index))
        item.index = item.part = None


def _blob(kind: str, value: Json) -> Blob:
    return Blob(NAME, kind, encode_json(value).decode())
