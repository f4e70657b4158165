"""Renderer of streamed answers of the Responses API, for websockets and for server-sent events.

Rules of the stream:

1. A stream consists of `created`, `in_progress`, the events of items, and one of `completed`, `incomplete` and `failed`
   (or `error` in place of `failed`). All these events have the same response id and `created_at`.
2. Parts may overlap; `output_index` identifies the item of an event.
3. `output_item.done` is sent when the next event shows that no further part belongs to the item. Codex and opencode run
   every call after its `output_item.done`, even if the answer then fails. So `output_item.done` is never sent for a
   call that a token limit or a failure could have cut.
4. The terminal event contains the whole output, and the usage with all token counts (estimated if unknown).
5. The name of each server-sent event is also the `type` in its data.

Rules of an item (an `ItemWriter` writes each part of an item):

1. Every event has `output_index`, `item_id` and a sequence number. An event of a part also has `content_index` or
   `summary_index`.
2. `output_item.done` makes agents run the call in the item, so this event is not sent for a call that a token limit
   could have cut.
3. A part of a summary begins when its first character arrives. An item without text has only a start and an end.
4. A call that must be converted to the kind that the agent declared (JSON or free text) is not sent until it is
   complete.
5. The last events of a call are sent together with the end of its item, because these events make an agent run the
   call.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import estimate_streamed
from .._calls import FittedCall, custom_names
from .._clock import answer_time
from .._documents import decode_json, encode_json, encode_text, is_same_dialect, merged
from .._failures import Failure
from ..streams import StreamRenderer
from .items import (
    ENCRYPTED,
    complete,
    encrypted_of,
    goes_on,
    item_of,
    output_text,
    place,
    reasoning_text,
    render_call,
    text_field,
)
from .response import ending, envelope, is_cut, is_whole, render_event_error, render_usage
from .tools import NAME, echo_of, names_of

ANNOTATIONS, LOGPROBS = "annotations", "logprobs"


class WireEvent(msgspec.Struct, frozen=True):
    """An event of the Responses API, before it is written as a server-sent event or a websocket message."""

    type: str
    data: bytes
    """The event's JSON document, encoded."""


class Counter:
    """A counter that numbers the events of one answer."""

    def __init__(self) -> None:
        self.next: int = 0
        self.answer = ""
        """The answer's id."""

    def event(self, kind: str, fields: dict[str, Json]) -> WireEvent:
        data = encode_json({"type": kind, "sequence_number": self.next, **fields})
        self.next += 1
        return WireEvent(kind, data)


class Item:
    """An output item that the renderer has not written completely. An item may contain several parts."""

    def __init__(self, counter: Counter, number: int, document: dict[str, Json]) -> None:
        self.document: dict[str, Json] = document
        """The item's final JSON object, as far as it is known."""
        self.open = 0
        """The number of parts of the item that have not ended."""
        self.done: bool = False
        """True if the item has ended, so that no further event of the item is sent."""
        self.blobs: tuple[Blob, ...] = ()
        self.writer: ItemWriter | None = None
        """The writer of the item's latest part."""
        self._counter = counter
        self._number = number
        self._places: dict[str, Json] = {"output_index": number}

    def begin(self, fields: dict[str, Json]) -> list[WireEvent]:
        """Return the event `output_item.added`, which contains the item without content."""
        self.document = complete(self.document, place(self._counter.answer, self._number))
        if isinstance(identity := self.document.get("id"), str):
            self._places = {"item_id": identity, "output_index": self._number}
        item = {**self.document, **fields}
        if "status" in item:
            item["status"] = "in_progress"
        return [
            self._counter.event("response.output_item.added", {"output_index": self._number, "item": item})
        ]

    def event(self, kind: str, **fields: Json) -> WireEvent:
        """Return an event of this type, with the item's id and its position in the output."""
        return self._counter.event(kind, {**self._places, **fields})

    def delta_frame(self, kind: str, **fields: Json) -> bytes:
        """Return the bytes of a delta event of this type that come before its sequence number."""
        return encode_json({"type": kind, **self._places, **fields})[:-1] + b',"sequence_number":'

    def delta(self, kind: str, frame: bytes, text: str) -> WireEvent:
        """Return a delta event whose JSON begins with `frame`.

        This is a fast path, because most events are deltas: `frame` was encoded before, once for the whole part.
        """
        number = self._counter.next
        self._counter.next += 1
        return WireEvent(kind, frame + b'%d,"delta":' % number + encode_text(text) + b"}")

    def end(self, *, cut: bool) -> list[WireEvent]:
        """Return the events that end the item.

        For a call that may be cut, return no events: agents run a call that has ended.

        `cut`: True if a token limit may have cut the item.
        """
        self.done = True
        if cut and self.writer is not None and not self.writer.is_whole():
            self.document["status"] = "incomplete"
            return []
        done = self.writer.finish() if self.writer else []
        encrypted = encrypted_of(self.blobs, packed=True) if self.blobs else None
        if encrypted is not None:
            self.document[ENCRYPTED] = encrypted
        fields = {"output_index": self._number, "item": self.document}
        return [*done, self._counter.event("response.output_item.done", fields)]


class ItemWriter:
    """The base class of writers, each of which writes one part of an item."""

    kind = ""

    def __init__(self, item: Item, *, same_dialect: bool) -> None:
        self.item = item
        self.texts: list[str] = []
        self._own = same_dialect
        self._frame = b""

    def start(self, *, first: bool) -> list[WireEvent]:
        """Return the events that start the part.

        If the part is the `first` part of its item, the events that start the item come before these events.
        """
        raise NotImplementedError

    def text(self, text: str) -> list[WireEvent]:
        if not text:
            return []
        self.texts.append(text)
        return [self.item.delta(self.kind, self._frame, text)]

    def blob(self, blob: Blob) -> list[WireEvent]:
        return []

    def end(self) -> list[WireEvent]:
        return []

    def finish(self) -> list[WireEvent]:
        """Return the events that are sent right before the event that ends the item."""
        return []

    def is_whole(self) -> bool:
        """Return False if the part may be incomplete."""
        return True


def writer_of(part: ResponsePart, item: Item, request: Request, *, same_dialect: bool) -> ItemWriter | None:
    """Return a writer that writes `part` to `item`. Return None if the Responses API cannot express the part."""
    match part:
        case Text() | RefusalText():
            return _TextWriter(item, part, same_dialect=same_dialect)
        case Reasoning():
            return _ReasoningWriter(item, part, same_dialect=same_dialect)
        case ToolCall():
            return _CallWriter(item, part, request, same_dialect=same_dialect)
        case Opaque(dialect=dialect, raw=raw) if dialect == NAME and isinstance(raw, dict):
            return _OpaqueWriter(item, same_dialect=same_dialect)
    return None


def document_of(part: ResponsePart, *, same_dialect: bool) -> dict[str, Json]:
    match part:
        case Opaque(raw=raw) if isinstance(raw, dict):
            return dict(raw)
        case ToolCall():
            return {}  # its writer makes the item
        case _:
            return item_of(part, same_dialect=same_dialect)


class _TextWriter(ItemWriter):
    def __init__(self, item: Item, part: Text | RefusalText, *, same_dialect: bool) -> None:
        super().__init__(item, same_dialect=same_dialect)
        self._part = part
        self._index = len(item.document["content"])
        self._document = output_text(
            msgspec.structs.replace(part, text=""), same_dialect=same_dialect, answer=True
        )
        self._lists: dict[str, list[Json]] = {
            name: list(self._document.pop(name, None) or ()) for name in (ANNOTATIONS, LOGPROBS)
        }
        self._refusal = isinstance(part, RefusalText)
        self._name = "response.refusal" if self._refusal else "response.output_text"
        self.kind = f"{self._name}.delta"

    def start(self, *, first: bool) -> list[WireEvent]:
        events = self.item.begin({"content": []}) if first else []
        empty = self._whole("", {name: [] for name in self._lists})
        self.item.document["content"] = [*self.item.document["content"], empty]
        events.append(self.item.event("response.content_part.added", content_index=self._index, part=empty))
        extra: dict[str, Json] = {} if self._refusal else {LOGPROBS: []}
        self._frame = self.item.delta_frame(self.kind, content_index=self._index, **extra)
        known, self._lists[ANNOTATIONS] = self._lists[ANNOTATIONS], []
        events += [event for annotation in known for event in self._annotate(annotation)]
        return [*events, *self.text(self._part.text)]

    def blob(self, blob: Blob) -> list[WireEvent]:
        if blob.dialect != NAME or blob.kind not in self._lists or self._refusal:
            return []
        value = decode_json(blob.data)
        if blob.kind == ANNOTATIONS:
            return self._annotate(value)
        self._lists[LOGPROBS].append(value)
        return []

    def end(self) -> list[WireEvent]:
        text = "".join(self.texts)
        document = self._whole(text, self._lists)
        content = self.item.document["content"]
        content[self._index] = document
        told = {"refusal": text} if self._refusal else {"text": text, LOGPROBS: self._lists[LOGPROBS]}
        return [
            self.item.event(f"{self._name}.done", content_index=self._index, **told),
            self.item.event("response.content_part.done", content_index=self._index, part=document),
        ]

    def _annotate(self, annotation: Json) -> list[WireEvent]:
        known = self._lists[ANNOTATIONS]
        known.append(annotation)
        return [
            self.item.event(
                "response.output_text.annotation.added",
                content_index=self._index,
                annotation_index=len(known) - 1,
                annotation=annotation,
            )
        ]

    def _whole(self, text: str, lists: dict[str, list[Json]]) -> dict[str, Json]:
        if self._refusal:
            return {**self._document, "refusal": text}
        return {**self._document, "text": text, **lists}


class _ReasoningWriter(ItemWriter):
    """A writer of one text in the summary, or in the content, of a reasoning item."""

    def __init__(self, item: Item, part: Reasoning, *, same_dialect: bool) -> None:
        super().__init__(item, same_dialect=same_dialect)
        self._part = part
        self._field = text_field(part, same_dialect=same_dialect)
        self._summary = self._field == "summary"
        self._name = "response.reasoning_summary_text" if self._summary else "response.reasoning_text"
        self.kind = f"{self._name}.delta"
        self._place: dict[str, Json] = {}

    def start(self, *, first: bool) -> list[WireEvent]:
        events = self.item.begin({}) if first else []
        self.item.blobs += self._part.blobs
        return [*events, *self.text(self._part.text)]

    def text(self, text: str) -> list[WireEvent]:
        if not text or self._frame:
            return super().text(text)
        number = len(self.item.document.get(self._field, ()))
        self._place = {"summary_index" if self._summary else "content_index": number}
        empty = reasoning_text(self._part, "", same_dialect=self._own)
        self.item.document[self._field] = [*self.item.document.get(self._field, ()), empty]
        self._frame = self.item.delta_frame(self.kind, **self._place)
        begun = [
            self.item.event("response.reasoning_summary_part.added", **self._place, part=empty)
            for _ in range(self._summary)
        ]
        return [*begun, *super().text(text)]

    def blob(self, blob: Blob) -> list[WireEvent]:
        self.item.blobs += (blob,)
        return []

    def end(self) -> list[WireEvent]:
        if not self._frame:
            return []
        text = "".join(self.texts)
        part = reasoning_text(self._part, text, same_dialect=self._own)
        (number,) = self._place.values()
        self.item.document[self._field][number] = part
        events = [self.item.event(f"{self._name}.done", **self._place, text=text)]
        if self._summary:
            events.append(self.item.event("response.reasoning_summary_part.done", **self._place, part=part))
        return events


class _OpaqueWriter(ItemWriter):
    """A writer of an item of an unknown type, of which only the start and the end are sent."""

    def start(self, *, first: bool) -> list[WireEvent]:
        return self.item.begin({})

    def text(self, text: str) -> list[WireEvent]:
        return []


class _CallWriter(ItemWriter):
    def __init__(self, item: Item, call: ToolCall, request: Request, *, same_dialect: bool) -> None:
        super().__init__(item, same_dialect=same_dialect)
        self._fitted = FittedCall(call, custom_names(request))
        self._names = names_of(request.tools)

    def start(self, *, first: bool) -> list[WireEvent]:
        return [] if self._fitted.held else [*self._begin(), *self.text(self._call.arguments)]

    def text(self, text: str) -> list[WireEvent]:
        return [] if self._fitted.hold(text) else super().text(text)

    def end(self) -> list[WireEvent]:
        events: list[WireEvent] = []
        if self._fitted.held:
            call = self._fitted.release()
            events = [*self._begin(), *self.text(call.arguments)]
        if not self.texts and self._call.kind == "json":
            events += self.text("{}")
        self.item.document[self._field] = "".join(self.texts)
        return events

    def finish(self) -> list[WireEvent]:
        done = self.kind.removesuffix("delta") + "done"
        fields = {self._field: self.item.document[self._field]}
        if self._field == "arguments":
            fields["name"] = self.item.document["name"]
        return [self.item.event(done, **fields)]

    def is_whole(self) -> bool:
        return is_whole(msgspec.structs.replace(self._call, arguments="".join(self.texts)))

    @property
    def _call(self) -> ToolCall:
        return self._fitted.call

    @property
    def _field(self) -> str:
        return "input" if self._call.kind == "text" else "arguments"

    def _begin(self) -> list[WireEvent]:
        text = self._call.kind == "text"
        self.kind = f"response.{'custom_tool_call_input' if text else 'function_call_arguments'}.delta"
        empty = msgspec.structs.replace(self._call, arguments="")
        document = render_call(empty, self._names, same_dialect=self._own, fresh=True)
        self.item.document = {**document, self._field: ""}
        events = self.item.begin({self._field: ""})
        self._frame = self.item.delta_frame(self.kind)
        return events


class Documents:
    """A renderer that converts triocept's events for one answer to events of the Responses API (`WireEvent`)."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._counter = Counter()
        self._own = True
        self._envelope: dict[str, object] = {}
        self._tools: list[Json] = []
        self._encoded_tools = b""
        self._start_usage: Usage | None = None
        self._items: list[Item] = []
        self._writers: dict[int, ItemWriter] = {}
        self._waiting: list[Item] = []  # complete items, which a later part may continue
        self._calls = False
        self._refusal = False
        self._characters = 0

    @property
    def response_id(self) -> str:
        """The answer's id that was sent to the agent; empty before the first event."""
        return str(self._envelope.get("id", ""))

    def render(self, event: Event) -> list[WireEvent]:
        """Return the Responses events for `event`; the list may be empty."""
        match event:
            case PartDelta(index=index, text=text):
                writer = self._writers.get(index)
                if writer is None:
                    return []
                self._characters += len(text)
                return [*self._settle(), *writer.text(text)] if self._waiting else writer.text(text)
            case PartStart(index=index, part=part):
                return self._part(index, part)
            case PartBlob(index=index, blob=blob):
                writer = self._writers.get(index)
                return [*self._settle(), *writer.blob(blob)] if writer else []
            case PartEnd(index=index):
                return self._part_end(index)
            case ResponseStart():
                self._own = is_same_dialect(event.dialect, NAME)
                self._start_usage = event.usage
                # If a keep-alive was sent first, the answer keeps the id of the keep-alive.
                extra = event.extra if self._own else None
                return [] if self._envelope else self._open(event.id, event.model, extra)
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> list[WireEvent]:
        """Return the `error` event that ends the stream. Open items are not ended."""
        document = render_event_error(failure, self._counter.next)
        return [self._counter.event("error", {k: v for k, v in document.items() if k != "sequence_number"})]

    def keepalive(self, response_id: str = "") -> list[WireEvent]:
        """Return a no-op event.

        If the start of the answer was not sent yet, return the start (with `response_id`) before the no-op.
        """
        begun = [] if self._envelope else self._open(response_id, "")
        return [*begun, self._counter.event("keepalive", {})]

    def _open(self, identity: str, model: str, extra: dict[str, object] | None = None) -> list[WireEvent]:
        self._tools, self._encoded_tools = echo_of(self._request)
        document = envelope(self._request, identity, model, int(answer_time()), self._tools)
        self._envelope = merged(document, extra) if extra else document
        self._counter.answer = self.response_id
        begun = msgspec.Raw(encode_json(self._with_echo(self._envelope)))
        kinds = ("response.created", "response.in_progress")
        return [self._counter.event(kind, {"response": begun}) for kind in kinds]

    def _with_echo(self, document: dict[str, object]) -> dict[str, object]:
        """Return `document` with its tools as encoded JSON, so that the tools are encoded only once for an answer."""
        if document["tools"] is not self._tools:
            return document
        return {**document, "tools": msgspec.Raw(self._encoded_tools)}

    def _part(self, index: int, part: ResponsePart) -> list[WireEvent]:
        last = self._items[-1] if self._items else None
        wanted = "reasoning" if isinstance(part, Reasoning) else "message"
        joins = (
            last is not None
            and goes_on(part, same_dialect=self._own)
            and last.document.get("type") == wanted
            and not last.done
        )
        events = self._settle(last if joins else None)
        if joins and last is not None:
            item = last
        else:
            item = Item(self._counter, len(self._items), document_of(part, same_dialect=self._own))
        writer = writer_of(part, item, self._request, same_dialect=self._own)
        if writer is None:
            return events
        if not joins:
            self._items.append(item)
        self._refusal = self._refusal or isinstance(part, RefusalText)
        if isinstance(part, ToolCall):
            self._calls = True
            self._characters += len(part.name)
        item.open += 1
        item.writer = self._writers[index] = writer
        return [*events, *writer.start(first=not joins)]

    def _part_end(self, index: int) -> list[WireEvent]:
        writer = self._writers.pop(index, None)
        if writer is None:
            return []
        events = [*self._settle(), *writer.end()]
        writer.item.open -= 1
        if not writer.item.open:
            self._waiting.append(writer.item)
        return events

    def _settle(self, but: Item | None = None, *, cut: bool = False) -> list[WireEvent]:
        """Return the events that end all items without an open part.

        Skip the item `but`, to which a further part belongs.
        """
        events = [event for item in self._waiting if item is not but for event in item.end(cut=cut)]
        self._waiting.clear()
        return events

    def _end(self, event: ResponseEnd) -> list[WireEvent]:
        begun = [] if self._envelope else self._open("", "")
        left = [each for index in sorted(self._writers) for each in self._part_end(index)]
        done = self._settle(cut=is_cut(event.stop_reason))
        usage = event.usage or self._start_usage or estimate_streamed(self._request, self._characters)
        document = {
            **self._envelope,
            "output": [item.document for item in self._items],
            "usage": render_usage(usage, same_dialect=self._own),
        }
        document = ending(
            document,
            self._request,
            event.stop_reason,
            calls=self._calls,
            refusal=self._refusal,
            extra=event.extra if self._own else None,
        )
        kind = f"response.{document['status']}"
        return [*begun, *left, *done, self._counter.event(kind, {"response": self._with_echo(document)})]


class Renderer(StreamRenderer):
    def __init__(self, request: Request) -> None:
        self._documents = Documents(request)

    @property
    def response_id(self) -> str:
        return self._documents.response_id

    def render(self, event: Event) -> bytes:
        return _framed(self._documents.render(event))

    def fail(self, failure: Failure) -> bytes:
        return _framed(self._documents.fail(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        return _framed(self._documents.keepalive(response_id))


def _framed(events: Iterable[WireEvent]) -> bytes:
    # Joined only once, because the events that repeat the request's tools are long.
    pieces = [(b"event: ", event.type.encode(), b"\ndata: ", event.data, b"\n\n") for event in events]
    return b"".join(chain.from_iterable(pieces))
