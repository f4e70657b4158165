"""Decoding of only the new part of a body that repeats an earlier body.

An agent sends its whole conversation with every call. It repeats all items byte for byte, or all but the last one to
three (Claude Code moves its cache mark). So the latest body of each conversation is kept, with the position behind each
item of its one long list (`messages`, `input`, `contents`). Of the next body, only the bytes that do not belong to a
repeated item are decoded. The repeated items are the same objects as before, so code that compares the items with
earlier items (`memory`) compares pointers.

Rules:

1. The document equals what a plain decode of the body returns, for any bytes. In any doubt nothing is returned, and the
   caller decodes the body whole, which also raises the errors.
2. Two bodies with the same first bytes are in the same state of the JSON grammar behind these bytes. So an item that
   ends within the common bytes is an item of the new body too, if a comma or the end of the list follows it there.
   Removing such items, each with its comma, leaves a body whose other fields, and further items, are unchanged.
3. The list must be the value of the field: the bytes before it, closed at this point, are an object whose last field is
   the empty list. No later field may have the same name, in whatever form JSON writes the name.
4. A body is kept only after it was decoded without repair (see `decode_json`).
5. If a program has changed a kept item in place, the conversation is forgotten (`Memory.is_intact`).
6. A reader belongs to one rollout, and keeps the bodies of `_CONVERSATIONS` conversations. All readers of the process
   together keep at most `MOST_BYTES`; above that, the body that was unused for longest is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from threading import Lock
from typing import Any, final

import msgspec

from .content import Json
from .memory import Memory

ENABLED = False
"""False: every body is decoded whole. The default, because rule 5 has gaps.

`Memory.is_intact` sees only the items that a parser has read through `Memory.read`. An item that a parser reads in
another way, or that is read while another call of the conversation is decoded, is not guarded: if a program changes it
in place, later documents contain the change. Fields of other dialects than triocept's may also be written with escapes
that `_HIDDEN` does not know, and `MOST_BYTES` counts neither the decoded items nor their positions.
"""
LEAST = 8 * 1024
"""Minimum bytes of a body that is kept. A smaller body is decoded in less time than it is compared."""
MOST_NEW = 512 * 1024
"""Maximum bytes that are decoded in one step."""
MOST_BYTES = 256 * 1024 * 1024
"""Maximum bytes of all kept bodies of the process."""
_CONVERSATIONS = 4
_REWRITTEN = 3
"""Maximum last items that an agent rewrites in its next call. If fewer items are repeated, the body begins another
conversation, and the earlier one is kept, too."""
_PIECE = 64 * 1024
_PLACES = 3
"""Maximum places at which the field is looked for: its name may also occur in other fields."""
_OPENS = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_HIDDEN = re.compile(rb"\\u00[4-7]")
_SPACE = b" \t\r\n"
_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


@final
class Conversation:
    """The latest body of a conversation."""

    __slots__ = ("_ends", "_field", "_items", "_marks", "_start", "body", "fresh", "memory")

    def __init__(self, memory: Memory) -> None:
        self.memory: Memory = memory
        """The memory for the parse of the conversation's documents."""
        self.body: bytes | None = None
        """None if the body is not kept any more."""
        self.fresh: int = 0
        """Bytes of the items that the latest body did not repeat; its size if it was decoded whole."""
        self._field = ""
        self._items: list[Json] = []
        self._start = 0
        """Position of the list's first item; 0 if the list was not located yet."""
        self._ends: list[int] = []
        """Position behind each item of the list."""
        self._marks = 0
        """Maximum number of marks (see `count_marks`) in the body; of a located list, without the bytes behind it."""

    def keep(
        self,
        body: bytes,
        field: str,
        items: list[Json],
        marks: int,
        start: int = 0,
        ends: list[int] | None = None,
    ) -> None:
        self.body, self._field, self._items, self.fresh = body, field, items, len(body)
        self._start, self._ends, self._marks = start, ends or [], marks

    def repeated(self, body: bytes, field: str) -> int:
        """Return how many items of the kept body the new body repeats from the beginning."""
        old = self.body
        if old is None or field != self._field:
            return 0
        common = _common_bytes(old, body)
        if common < len(field) or not self._locate(old):
            return 0
        count = bisect_right(self._ends, common)
        if count and body[self._ends[count - 1] : self._ends[count - 1] + 1] not in (b",", b"]"):
            count -= 1
        return count

    def read(self, body: bytes, count: int, most: int) -> dict[str, Json] | None:
        """Return the document of a body that repeats `count` items, and keep the body; None in doubt.

        Return None, too, if the body may have more than `most` marks.
        """
        field, start, end = self._field, self._start, self._ends[count - 1]
        goes_on = body[end] == ord(",")
        rest = body[end + goes_on :]
        if len(rest) > MOST_NEW:
            return None
        short = b"".join([body[:start], rest])
        try:
            document: Any = _decode(short)
            new = document[field]
            if type(new) is not list or bool(new) != goes_on:
                return None
            ends = _ends_of(short, field, start)
        except (*_ERRORS, LookupError, TypeError):
            return None
        if ends is None or len(ends) != len(new):
            return None
        shift = len(body) - len(short)
        last = ends[-1] if ends else start
        marks = self._marks
        if len(body) > most:
            marks += count_marks(short, start, last) + 1
            if marks + count_marks(short, last, len(short)) > most:
                return None
        elif marks < len(body):
            marks = len(body)
        document[field] = items = self._items[:count] + new
        self.keep(body, field, items, marks, start, self._ends[:count] + [at + shift for at in ends])
        self.fresh = self._ends[-1] - end
        return document  # type: ignore[no-any-return]

    def is_continued(self, count: int) -> bool:
        """Return True if a body that repeats so many items continues the conversation."""
        return count >= len(self._items) - _REWRITTEN

    def fork(self) -> Conversation:
        """Return a conversation that begins with the same items."""
        other = Conversation(self.memory.fork())
        if self.body is not None:
            other.keep(self.body, self._field, self._items, self._marks, self._start, self._ends)
        return other

    def _locate(self, body: bytes) -> bool:
        """Find the positions of the items; return False if the body is not suitable, which then is not kept."""
        if self._start:
            return True
        try:
            self._start = start = _start_of(body, self._field)
            ends = _ends_of(body, self._field, start) if start else None
        except _ERRORS:
            ends = None
        if ends is None or len(ends) != len(self._items):
            self.body = None
            return False
        self._ends = ends
        if ends and self._marks < len(body):
            self._marks -= count_marks(body, ends[-1], len(body))
        return True


@final
class BodyReader:
    """The reader of the bodies of one rollout."""

    def __init__(self) -> None:
        self._known: list[Conversation] = []
        """The latest conversations, the latest at the end."""
        self._closed = False

    def read(self, body: bytes, field: str, most: int) -> tuple[Json, Conversation] | None:
        """Return the document of a body that repeats items of an earlier body, and the conversation; None otherwise.

        Args:
            body: the whole body.
            field: the field that holds the conversation.
            most: maximum number of marks (see `count_marks`). A body that may have more is not read.
        """
        if not ENABLED or len(body) < LEAST:
            return None
        best, count = None, 0
        for known in reversed(self._known):
            repeated = known.repeated(body, field)
            if repeated > count:
                best, count = known, repeated
                if known.is_continued(repeated):
                    break
        if best is None:
            return None
        if not best.memory.is_intact(field):
            self._forget(best)
            return None
        target = best if best.is_continued(count) else best.fork()
        document = target.read(body, count, most)
        if document is None:
            return None
        self._add(target)
        return document, target

    def keep(self, body: bytes, field: str, document: Json, marks: int) -> Conversation | None:
        """Keep a body that was decoded whole, and return its conversation; None if the body is not suitable.

        `marks` is the maximum number of its marks (see `count_marks`).
        """
        if not ENABLED or len(body) < LEAST or not isinstance(document, dict):
            return None
        items = document.get(field)
        if type(items) is not list or not items or len(body) > MOST_BYTES // 4:
            return None
        known = next((one for one in reversed(self._known) if one.body is None), None)  # its body was dropped
        if known is None:
            known = Conversation(self._known[-1].memory.fork() if self._known else Memory(guarded=True))
        known.keep(body, field, items, marks)
        self._add(known)
        return known

    def clear(self) -> None:
        """Forget all bodies, and keep none any more: the rollout has ended."""
        self._closed = True
        for known in self._known:
            _SHELF.discard(known)
        self._known = []

    def _add(self, known: Conversation) -> None:
        if self._closed:
            return
        if known in self._known:
            self._known.remove(known)
        self._known.append(known)
        while len(self._known) > _CONVERSATIONS:
            _SHELF.discard(self._known.pop(0))
        _SHELF.put(known)

    def _forget(self, known: Conversation) -> None:
        self._known.remove(known)
        _SHELF.discard(known)


class _Shelf:
    """The kept bodies of all readers, which may be in several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sizes: OrderedDict[Conversation, int] = OrderedDict()
        """Bytes of each kept body; the one that was unused for longest comes first."""
        self.bytes = 0

    def put(self, known: Conversation) -> None:
        """Add a conversation, or its new body, as the latest."""
        with self._lock:
            size = 0 if known.body is None else len(known.body)
            self.bytes += size - self._sizes.pop(known, 0)
            self._sizes[known] = size
            while self.bytes > MOST_BYTES:
                oldest, size = self._sizes.popitem(last=False)
                self.bytes -= size
                oldest.body = None

    def discard(self, known: Conversation) -> None:
        """Remove a conversation."""
        with self._lock:
            self.bytes -= self._sizes.pop(known, 0)
        known.body = None


_SHELF = _Shelf()


def count_marks(body: bytes, start: int, end: int) -> int:
    """Return the number of commas and opening brackets, inside and outside of strings.

    One of them precedes each value, or its key, except the document's first value.
    """
    return sum(body.count(mark, start, end) for mark in (b",", b"[", b"{"))


def _common_bytes(old: bytes, new: bytes) -> int:
    """Return how many first bytes are equal. `startswith` compares slices without a copy."""
    view, at, size = memoryview(old), 0, min(len(old), len(new))
    while at < size and new.startswith(view[at : min(at + _PIECE, size)], at):
        at += _PIECE
    low, high = at, min(at + _PIECE, size)  # the first difference is in this slice
    if at >= size:
        return size
    while high - low > 1:
        middle = (low + high) // 2
        if new.startswith(view[low:middle], low):
            low = middle
        else:
            high = middle
    return low


def _start_of(body: bytes, field: str) -> int:
    """Return the position of the first item of the list in a field of the document; 0 in doubt (rule 3)."""
    name = f'"{field}"'.encode()
    at = -1
    for _ in range(_PLACES):
        at = body.find(name, at + 1)
        if at < 0:
            break
        if opens := _OPENS.match(body, at + len(name)):
            start = opens.end()
            try:
                head = _decode(body[:start] + b"]}")
            except _ERRORS:
                continue
            if isinstance(head, dict) and head and [*head][-1] == field and head[field] == []:
                return start
    return 0


def _ends_of(body: bytes, field: str, start: int) -> list[int] | None:
    """Return the position behind each item of the list that begins at `start`; None if it is not the field's value.

    Raises:
        msgspec.DecodeError: the body is not JSON.
    """
    raw = memoryview(_fields(body)[field])
    end = start - 1 + len(raw)
    if not body.startswith(raw, start - 1):
        return None
    if _may_hold(body, field, end) and field in _fields(b'{"":0' + body[end:]):
        return None
    ends = []
    at = start
    for item in _raw_items(raw):
        while body[at] in _SPACE:
            at += 1
        at += len(memoryview(item))
        ends.append(at)
        while body[at] in _SPACE:
            at += 1
        at += 1
    return ends if at == end or not ends else None


def _may_hold(body: bytes, field: str, start: int) -> bool:
    """Return False if no object in the bytes from `start` on has a field of this name."""
    if body.find(f'"{field}"'.encode(), start) >= 0:
        return True
    return body.find(b"\\u00", start) >= 0 and _HIDDEN.search(body, start) is not None
