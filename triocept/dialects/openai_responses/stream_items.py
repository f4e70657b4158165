"""The items of a streamed answer, and the events of their begin and end; and what writes to them.

Rules:

1. Every event has its place (`output_index`, `item_id`) and its number.
2. `output_item.done` makes agents run what the item holds: one that a cap may have cut is not done.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Blob, Json
from .._documents import encode_json, encode_text
from .items import complete, place
from .reasoning import ENCRYPTED, encrypted_of

__all__ = ["Counter", "Item", "WireEvent", "ItemWriter"]


class WireEvent(msgspec.Struct, frozen=True):
    """One event as the wire has it, before it is framed."""

    type: str
    data: bytes
    """The JSON document."""


class Counter:
    """Numbers the events of one answer."""

    def __init__(self) -> None:
        self.next: int = 0
        self.answer = ""
        """The answer's id."""

    def event(self, kind: str, fields: dict[str, Json]) -> WireEvent:
        """The event of this kind, with its number."""
        data = encode_json({"type": kind, "sequence_number": self.next, **fields})
        self.next += 1
        return WireEvent(kind, data)


class Item:
    """One item of the output that is being written; several parts may write to it."""

    def __init__(self, counter: Counter, number: int, document: dict[str, Json]) -> None:
        self.document: dict[str, Json] = document
        """As it will be at the end."""
        self.open = 0
        """How many parts are writing to it."""
        self.done: bool = False
        """Whether it has ended."""
        self.blobs: tuple[Blob, ...] = ()
        self.writer: ItemWriter | None = None
        """The last one that wrote to it."""
        self._counter = counter
        self._number = number
        self._places: dict[str, Json] = {"output_index": number}

    @property
    def id(self) -> Json:
        return self.document.get("id")

    def begin(self, fields: dict[str, Json]) -> list[WireEvent]:
        """`output_item.added`: the item, with what is still empty."""
        self.document = complete(self.document, place(self._counter.answer, self._number))
        if isinstance(self.id, str):
            self._places = {"item_id": self.id, "output_index": self._number}
        item = {**self.document, **fields}
        if "status" in item:
            item["status"] = "in_progress"
        return [
            self._counter.event("response.output_item.added", {"output_index": self._number, "item": item})
        ]

    def event(self, kind: str, **fields: Json) -> WireEvent:
        """An event with this item's place."""
        return self._counter.event(kind, {**self._places, **fields})

    def delta_frame(self, kind: str, **fields: Json) -> bytes:
        """What stands before the number of a delta of this kind."""
        return encode_json({"type": kind, **self._places, **fields})[:-1] + b',"sequence_number":'

    def delta(self, kind: str, frame: bytes, text: str) -> WireEvent:
        """A delta: the hot path of every stream."""
        number = self._counter.next
        self._counter.next += 1
        return WireEvent(kind, frame + b'%d,"delta":' % number + encode_text(text) + b"}")

    def end(self, *, cut: bool) -> list[WireEvent]:
        """`output_item.done`, which makes agents run what it holds; `cut`: a cap may have cut it."""
        self.done = True
        if cut and self.writer is not None and not self.writer.is_whole():
            self.document["status"] = "incomplete"
            return []
        done = self.writer.finish() if self.writer else []
        encrypted = encrypted_of(self.blobs, packed=True)
        if encrypted is not None:
            self.document[ENCRYPTED] = encrypted
        fields = {"output_index": self._number, "item": self.document}
        return [*done, self._counter.event("response.output_item.done", fields)]


class ItemWriter:
    """What all have in common: a delta stands behind a constant piece."""

    kind = ""

    def __init__(self, item: Item, *, same_dialect: bool) -> None:
        self.item = item
        self.texts: list[str] = []
        self._own = same_dialect
        self._frame = b""

    def start(self, *, first: bool) -> list[WireEvent]:
        """The part begins; `first`: and so does its item."""
        raise NotImplementedError

    def text(self, text: str) -> list[WireEvent]:
        """More of it."""
        if not text:
            return []
        self.texts.append(text)
        return [self.item.delta(self.kind, self._frame, text)]

    def blob(self, blob: Blob) -> list[WireEvent]:
        """An opaque piece of it."""
        return []

    def end(self) -> list[WireEvent]:
        """It is whole."""
        return []

    def finish(self) -> list[WireEvent]:
        """Its item is whole."""
        return []

    def is_whole(self) -> bool:
        """Whether it is more than the beginning of something."""
        return True
