"""Decode only the new part of a request body that repeats an earlier body.

An agent sends its whole conversation with every call. Each call repeats all items byte for byte, or all except at most
the last three (Claude Code moves its cache mark). So the latest body of each conversation is kept. A body has one long
list (`messages`, `input` or `contents`). The end position of each item of this list is kept, too. Of the next body,
only the bytes that do not belong to a repeated item are decoded. The repeated items are the same objects as before, so
`memory`, which compares items with earlier items, compares only pointers.

Rules:

1. The document equals what a plain decode of the body returns, for any bytes. In any doubt the functions return None,
   and the caller decodes the whole body, which also raises the errors.
2. Two bodies with the same first bytes are in the same state of the JSON grammar behind these bytes. An item may end
   within these common bytes. If a comma or the list's end then follows in the new body, the item is an item of the new
   body, too. Removing such items, each with its comma, leaves a body whose other fields, and further items, are
   unchanged.
3. The list must be the value of the field. This is checked as follows: the bytes before the first item, followed by
   `]}`, must be an object whose last field is the empty list. No later field may have the same name, in whatever form
   JSON writes the name. A name of other characters than ASCII letters and `_` has too many forms, so such a list is
   always decoded whole.
4. If the bytes behind the list equal those of the earlier body, the other fields are equal, too. The bytes before the
   list are common to both bodies. All new bytes of the list must be items, with a comma between any two. This also
   holds if no item is repeated: an agent that has compacted its conversation sends the same tools again. If the bytes
   behind the list differ, a long field whose own bytes are equal is not decoded again. (Codex changes a short field
   with every call, and repeats its tools.) The lengths of the fields must add up to the length of the body. Then no
   field is repeated, so every value is either known or decoded.
5. A body is kept only after it was decoded without repair (see `decode_json`), and parsed without an error.
6. The documents of several calls contain the same items, and each document has its own list. No code changes an item. A
   program gets a copy of the document (`Exchange.raw`). A request contains read-only copies of the JSON in an item
   (`frozen`). Other fields that several documents share are read-only.
7. While the body of a call is parsed, the conversation that the call continues is not among the kept conversations. So
   no two calls, which may be parsed in threads, use one `Memory` at a time.
8. A reader belongs to one rollout, and keeps `_CONVERSATIONS` conversations. All readers of the process together keep
   at most `MOST_BYTES`. When exceeded: the conversation that was unused for the longest time is dropped, with
   everything in the conversation.
9. The work of one step is limited. The limits apply to the bytes and items that are decoded, and to the lists and
   objects in these items.
10. A `Repeat` states which bytes of a body repeat a kept body. These bytes also need not be counted again: see
    `_server/documents.py`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple, final
from weakref import ref

import msgspec

from .content import Json
from .frozen import count_members, frozen_json
from .memory import Memory

ENABLED = True
"""If False, every body is decoded as a whole. Only tests and benchmarks set this value. The parsed requests must be the
same with both values."""
LEAST = 8 * 1024
"""Minimum bytes of a body that is kept. Decoding a smaller body takes less time than comparing it."""
LEAST_FIELD = 1024
"""Minimum bytes of a field that is kept in addition to the list, so that the field is not decoded again. Shorter
fields are always decoded."""
LEAST_ITEM = 64
"""Minimum bytes of an item of a kept body, on average. Decoding a smaller item, such as the id of a token, takes less
time than finding its position."""
MOST = 8 * 1024 * 1024
"""Maximum bytes of a body that is kept. The comparison of a larger body takes too long without a schedule point."""
MOST_NEW = 512 * 1024
"""Maximum bytes that are decoded in one step, that is, without a schedule point."""
MOST_ITEMS = 10_000
"""Maximum items of a conversation that is kept: a longer list is parsed in a thread."""
MOST_CONTAINERS = 20_000
"""Maximum dicts and lists that are counted in one step, which takes up to 4 ms."""
MOST_BYTES = 512 * 1024 * 1024
"""Maximum bytes of all kept conversations of the process, as estimated by `_size`."""
_CONVERSATIONS = 4
_REWRITTEN = 3
"""Maximum items at the end of a conversation that the next call may rewrite. If a body rewrites more items, the body
begins another conversation, and the earlier conversation is kept, too."""
LEAST_TEXT = 256
"""Minimum characters of a text for which a rewritten item gets the object of the earlier item (see rule 9)."""
_LEVELS = 8
"""Maximum levels of lists and objects in which such texts are searched."""
_RARELY = 8
"""Number of consecutive bodies that repeat no item after which only every eighth body is kept."""
_PIECE = 64 * 1024
_PLACES = 3
"""Maximum occurrences of the field's name in a body that are examined in the search for the field. The name may also
occur within other fields."""
_PLAIN_NAME = re.compile("[A-Za-z_]+")
_OPENS = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_HIDDEN = re.compile(rb"\\u00[4-7]")
_SPACE = b" \t\r\n"
_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_DOUBT = (*_ERRORS, LookupError, TypeError)
_decode = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


@final
class Conversation:
    """A conversation up to its latest body.

    Only the content of `memory` and the positions (`start`, `ends`) change later: the positions are computed when the
    positions are first needed. The caller sets `marks`, the `Marks` of the body, before it passes the conversation to
    `BodyReader.keep`. If `marks` is None, the marks of the body were not counted.

    Args:
        body: the body.
        field: the field with the long list.
        items: the items of the list.
        memory: the `Memory` with which the body, and later bodies that continue it, are parsed.
        size: estimated bytes of everything that the conversation keeps.
        fresh: number of bytes of the items that the previous body did not contain. For the first body, this is the
            number of bytes of all items.
        start: position of the first item; 0 if the position is not known yet.
        ends: end position of each item.
        rest: the read-only document, with None in place of the list. None if the document is not known; empty if the
            document is too large.
        long: for each other field of at least `LEAST_FIELD` bytes, by its name: its JSON and its value. JSON and value
            come from the latest body whose end (the bytes after the list) differed from the end of the previous body.
    """

    __slots__ = (
        "__weakref__",
        "body",
        "ends",
        "field",
        "fresh",
        "items",
        "long",
        "marks",
        "memory",
        "rest",
        "size",
        "start",
    )

    def __init__(
        self,
        body: bytes,
        field: str,
        items: tuple[Json, ...],
        memory: Memory,
        size: int,
        fresh: int,
        start: int = 0,
        ends: list[int] | None = None,
        rest: dict[str, Json] | None = None,
        long: Mapping[str, tuple[bytes, Json]] = MappingProxyType({}),
    ) -> None:
        self.body: bytes = body
        self.field: str = field
        self.items: tuple[Json, ...] = items
        self.memory: Memory = memory
        self.size: int = size
        self.fresh: int = fresh
        self.start: int = start
        self.ends: list[int] | None = ends
        self.rest: dict[str, Json] | None = rest
        self.long: Mapping[str, tuple[bytes, Json]] = long
        self.marks: Marks | None = None

    def repeated(self, body: bytes, field: str) -> int:
        """Return how many items at the beginning of this conversation `body` repeats.

        Return -1 if the positions of the items are uncertain.
        """
        common = _common_bytes(self.body, body) if field == self.field else 0
        if self.body.find(f'"{field}"'.encode(), 0, common) < 0:
            return 0
        if self.ends is None:
            self.start, self.ends = _positions(self.body, field, len(self.items))
        if not self.ends:
            return -1
        count = bisect_right(self.ends, common)
        if count and body[self.ends[count - 1] : self.ends[count - 1] + 1] not in (b",", b"]"):
            count -= 1
        return count

    def surrounds(self, body: bytes, field: str) -> bool:
        """Return True if `body` equals the conversation's body before the first item and after the last item."""
        if not self.ends or not self.rest or field != self.field:
            return False
        view = memoryview(self.body)
        size = self.start + len(view) - self.ends[-1]
        return (
            len(body) > size and body.startswith(view[: self.start]) and body.endswith(view[self.ends[-1] :])
        )

    def compared(self, body: bytes, count: int) -> Repeat:
        """Return which bytes of `body` repeat this conversation, if `body` repeats the first `count` items.

        If `count` is 0, `surrounds(body)` must be True.
        """
        assert self.ends
        start = self.ends[count - 1] if count else self.start
        behind = memoryview(self.body)[self.ends[-1] :]
        same = start + len(behind) <= len(body) and body.endswith(behind)
        return Repeat(self, count, start, len(behind) if same else 0)

    def is_continued(self, count: int) -> bool:
        """Return True if a body that repeats the first `count` items continues this conversation.

        Otherwise, the body begins another conversation.
        """
        return count >= len(self.items) - _REWRITTEN

    def read(self, body: bytes, count: int) -> tuple[Json, Conversation] | None:
        """Return the decoded document of `body`, and the conversation extended by the new items of `body`.

        The first `count` items of `body` repeat items of this conversation. If `count` is 0, `surrounds(body)` must be
        True.

        Return None if the result is uncertain. If `body` begins another conversation, that conversation gets a copy of
        the memory.
        """
        assert self.ends
        field, end = self.field, self.ends[count - 1] if count else self.start
        first = end + (count > 0 and body[end] == ord(","))
        behind = memoryview(self.body)[self.ends[-1] :]
        last, long = len(body) - len(behind), self.long
        same = last >= first and body.startswith(behind, last)
        try:
            if same and self.rest:
                document, new, ends = self.rest, *self._read_items(body, first, last)
            else:
                document, new, ends, long = self._read_short(body, first)
        except _DOUBT:
            return None
        if len(ends) != len(new) or bool(new) != (first > end or not count) or count + len(new) > MOST_ITEMS:
            return None
        if (members := count_members(new, MOST_CONTAINERS)) is None:
            return None
        continued = self.is_continued(count)
        if continued:
            _share_texts(new, [*self.items[count:]])
        items = (*self.items[:count], *new)
        rest = self.rest if same else None
        if same and rest is None:
            rest, more = _frozen_rest(document, field)
            document, members = rest or document, members + more
        ends = self.ends[:count] + ends
        memory = self.memory if continued else self.memory.fork()
        size = self.size + _size(body, members) - 2 * len(self.body) + _size_of(long) - _size_of(self.long)
        known = Conversation(body, field, items, memory, size, ends[-1] - end, self.start, ends, rest, long)
        return {**document, field: [*items]}, known

    def _read_items(self, body: bytes, first: int, last: int) -> tuple[list[Json], list[int]]:
        """Return the items in `body` between the positions `first` and `last`, and the end position of each item.

        Raises:
            _DOUBT: the bytes between the positions are not items, or are more than `MOST_NEW`.
        """
        if last - first > MOST_NEW:
            raise LookupError
        raw = b"".join([b"[", body[first:last], b"]"])
        return _decode(raw), _ends_in(raw, raw, 1, first - 1)

    def _read_short(
        self, body: bytes, first: int
    ) -> tuple[dict[str, Json], list[Json], list[int], dict[str, tuple[bytes, Json]]]:
        """Decode the document without its repeated items.

        Return the document, its new items, the end position of each new item, and the document's long fields.

        Raises:
            _DOUBT: the position of the list is uncertain, or more than `MOST_NEW` bytes must be decoded.
        """
        if self.start + len(body) - first > MOST_NEW:
            raise LookupError
        short = b"".join([body[: self.start], body[first:]])
        fields = _fields(short)
        ends = _ends_of(short, fields[self.field], self.field, self.start, first - self.start)
        document: dict[str, Json] = {}
        long: dict[str, tuple[bytes, Json]] = {}
        sizes = [len(name.encode()) + len(memoryview(raw)) + len('"":,') for name, raw in fields.items()]
        if len(short) != sum(sizes) + 1:  # a field may be repeated, and its first value may be no valid JSON
            document = _decode(short)
            return document, document[self.field], ends, long
        for name, raw in fields.items():
            if name == self.field or len(memoryview(raw)) < LEAST_FIELD:
                document[name] = _decode(raw)
                continue
            written, (before, value) = bytes(raw), self.long.get(name, (b"", None))
            document[name] = value if written == before else _decode(written)
            long[name] = written, document[name]
        return document, document[self.field], ends, long


class Marks(NamedTuple):
    """A number of commas and opening brackets in a body. One more than this number is a limit on the body's values."""

    number: int
    outside: bool
    """True if only those outside of strings were counted; False if all were counted."""


class Repeat(NamedTuple):
    """The bytes of a body that repeat the latest body of a kept conversation."""

    conversation: Conversation
    items: int
    """Number of items at the beginning of the list that are repeated."""
    start: int
    """Number of repeated bytes at the beginning of the body. They end outside of any JSON string."""
    end: int
    """Number of repeated bytes at the end of the body. In the kept body, they begin outside of any JSON string."""


def _share_texts(new: Json, old: Json, levels: int = _LEVELS) -> Json:
    """Return `new`, whose long texts that equal the texts at the same places in `old` are replaced by the old objects.

    `new` is changed in place.
    """
    if type(new) is str:
        return old if len(new) >= LEAST_TEXT and new == old else new
    if levels and type(new) is dict and type(old) is dict:
        for name in new.keys() & old.keys():
            new[name] = _share_texts(new[name], old[name], levels - 1)
    elif levels and type(new) is list and type(old) is list:
        for place, pair in enumerate(zip(new, old, strict=False)):
            new[place] = _share_texts(*pair, levels - 1)
    return new


@final
class BodyReader:
    """The reader of the bodies of one rollout."""

    def __init__(self) -> None:
        self._known: list[ref[Conversation]] = []
        """The kept conversations, the latest at the end. Only `_SHELF` keeps these objects alive."""
        self._missed = 0
        """Number of consecutive latest bodies that repeated no item."""
        self._closed = False

    def find(self, body: bytes, field: str) -> Repeat | None:
        """Return which bytes of a body repeat an earlier body.

        Return None if the body repeats no item, and does not repeat all other fields either.
        """
        if not ENABLED or not LEAST <= len(body) <= MOST:
            return None
        best, count = None, 0
        for known in self._alive():
            repeated = known.repeated(body, field)
            if repeated < 0:
                _SHELF.discard(known)
            elif repeated > count or (best is None and known.surrounds(body, field)):
                best, count = known, repeated
                if repeated and known.is_continued(repeated):
                    break
        return None if best is None else best.compared(body, count)

    def read(self, body: bytes, field: str, repeat: Repeat | None = None) -> tuple[Json, Conversation] | None:
        """Return the document of a body that repeats a part of an earlier body, and the document's conversation.

        Return None if the body repeats no item, and does not repeat all other fields either. Pass the conversation to
        `keep` once the document is parsed.

        Args:
            body: the body.
            field: the field that holds the conversation.
            repeat: an earlier result of `find` for this body. If the conversation is no longer kept, because another
                call continues it, the result is not used.
        """
        if repeat is None or repeat.conversation not in self._alive():
            repeat = self.find(body, field)
        if repeat is None:
            return None
        best, count = repeat.conversation, repeat.items
        if (found := best.read(body, count)) is None:
            return None
        self._missed = 0
        if best.is_continued(count):
            _SHELF.discard(best)
        else:
            _SHELF.put(best)
        return found

    def begin(self, body: bytes, field: str, document: Json, memory: Memory) -> Conversation | None:
        """Return a new conversation for a body that was decoded as a whole; None if the body must not be kept.

        Pass the conversation to `keep` once the document is parsed. The items of the document must not be changed. The
        JSON in its other fields becomes read-only.

        Args:
            body: the body.
            field: the field that holds the conversation.
            document: the decoded body.
            memory: the `Memory` to copy if no conversation is kept. If a conversation is kept, the memory of the latest
                one is copied.
        """
        if not ENABLED or not LEAST <= len(body) <= MOST or not isinstance(document, dict):
            return None
        items = document.get(field)
        if type(items) is not list or not 0 < len(items) <= MOST_ITEMS or not _PLAIN_NAME.fullmatch(field):
            return None
        if len(items) * LEAST_ITEM > len(body):
            return None
        self._missed += 1
        if self._missed > _RARELY and self._missed % _RARELY:
            return None
        if (members := count_members(items, MOST_CONTAINERS)) is None:
            return None
        rest, more = _frozen_rest(document, field)
        document.update(rest)
        document[field] = items
        memory = next((known.memory for known in self._alive()), memory).fork()
        size = _size(body, members + more)
        return Conversation(body, field, tuple(items), memory, size, len(body), rest=rest)

    def keep(self, conversation: Conversation) -> None:
        """Keep a conversation for later bodies.

        Call this method only after the conversation's latest document was parsed without an error.
        """
        if self._closed:
            return
        known = [*self._alive()[::-1], conversation]
        for dropped in known[:-_CONVERSATIONS]:
            _SHELF.discard(dropped)
        self._known = [ref(each) for each in known[-_CONVERSATIONS:]]
        _SHELF.put(conversation)

    def clear(self) -> None:
        """Drop all conversations, because the rollout has ended. Later calls of `keep` have no effect."""
        self._closed = True
        for known in self._alive():
            _SHELF.discard(known)

    def _alive(self) -> list[Conversation]:
        """Return the conversations that are still in `_SHELF`, the latest first."""
        return [known for each in reversed(self._known) if (known := each()) is not None and known in _SHELF]


class _Shelf:
    """The kept conversations of all readers. Several threads may use this object at the same time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[Conversation, None] = OrderedDict()
        """The kept conversations, as keys of the dict. The conversation that was unused for the longest time comes
        first."""
        self.bytes = 0

    def __contains__(self, conversation: Conversation) -> bool:
        return conversation in self._kept

    def put(self, conversation: Conversation) -> None:
        """Add a conversation, or make a kept conversation the latest.

        While the total size exceeds `MOST_BYTES`: drop the oldest conversation.
        """
        self.discard(conversation)
        with self._lock:
            self._kept[conversation] = None
            self.bytes += conversation.size
            while self.bytes > MOST_BYTES:
                oldest, _ = self._kept.popitem(last=False)
                self.bytes -= oldest.size

    def discard(self, conversation: Conversation) -> None:
        with self._lock:
            if conversation in self._kept:
                del self._kept[conversation]
                self.bytes -= conversation.size


_SHELF = _Shelf()


def _frozen_rest(document: dict[str, Json], field: str) -> tuple[dict[str, Json], int]:
    """Return a read-only copy of `document` with None as the value of `field`, and the number of values in the copy.

    Return `({}, 0)` if the document is too large.
    """
    rest = {**document, field: None}
    members = count_members(rest, MOST_CONTAINERS)
    return ({}, 0) if members is None else (frozen_json(rest), members)


def _size(body: bytes, members: int) -> int:
    """Estimate the bytes in memory of a body and of its `members` decoded values."""
    return 2 * len(body) + 100 * members


def _size_of(long: Mapping[str, tuple[bytes, Json]]) -> int:
    """Estimate the bytes in memory of long fields: their JSON, and decoded values of twice that size."""
    return 3 * sum([len(written) for written, _ in long.values()])


def _common_bytes(old: bytes, new: bytes) -> int:
    """Return how many bytes at the beginning of both bodies are equal.

    `startswith` compares a slice of a memoryview without a copy.
    """
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
    """Return the position of the first item of the list in `field`; 0 if no position is certain.

    Rule 3 of this module says when a position is certain.
    """
    name = f'"{field}"'.encode()
    at = -1
    for _ in range(_PLACES):
        at = body.find(name, at + 1)
        if at < 0:
            break
        if opens := _OPENS.match(body, at + len(name)):
            start = opens.end()
            if start > MOST_NEW:
                break
            try:
                head = _decode(body[:start] + b"]}")
            except _ERRORS:
                continue
            if isinstance(head, dict) and head and [*head][-1] == field and head[field] == []:
                return start
    return 0


def _positions(body: bytes, field: str, count: int) -> tuple[int, list[int]]:
    """Return the position of the first item, and the end position of each of the `count` items.

    Return `(0, [])` if a position is uncertain.
    """
    try:
        start = _start_of(body, field)
        ends = _ends_of(body, _fields(body)[field], field, start, 0) if start else []
    except _DOUBT:
        ends = []
    return (start, ends) if len(ends) == count else (0, [])


def _ends_of(body: bytes, value: msgspec.Raw, field: str, start: int, shift: int) -> list[int]:
    """Return the end position of each item of the list that begins at `start`, increased by `shift`.

    `value` is the value of the field `field` in `body`.

    Raises:
        _DOUBT: the list is not the field's value, or more than `MOST_NEW` bytes are outside the list.
    """
    raw = memoryview(value)
    end = start - 1 + len(raw)
    if not body.startswith(raw, start - 1) or start + len(body) - end > MOST_NEW:
        raise LookupError
    if _may_hold(body, field, end) and field in _fields(b'{"":0' + body[end:]):
        raise LookupError
    return _ends_in(body, raw, start, shift)


def _ends_in(body: bytes, raw: bytes | memoryview, start: int, shift: int) -> list[int]:
    """Return the end position of each item of the JSON list `raw`, increased by `shift`.

    In `body`, the first item of `raw` begins at the position `start`.
    """
    ends = []
    at = start
    for item in _raw_items(raw):
        while body[at] in _SPACE:
            at += 1
        at += len(memoryview(item))
        ends.append(at + shift)
        while body[at] in _SPACE:
            at += 1
        at += 1
    return ends


def _may_hold(body: bytes, field: str, start: int) -> bool:
    """Return True if an object in `body` behind the position `start` could have a field with the name `field`."""
    if body.find(f'"{field}"'.encode(), start) >= 0:
        return True
    return body.find(b"\\u00", start) >= 0 and _HIDDEN.search(body, start) is not None
