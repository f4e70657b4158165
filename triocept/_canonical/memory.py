"""Keep the latest call of an agent, so that unchanged parts of the next request are not parsed or stored again.

An agent sends its whole conversation with every call, and changes little in the conversation. Claude Code, for example,
moves its cache mark to the new last message and rewrites the message that had the mark. All messages except at most the
last three stay unchanged. Equal items of request bodies are parsed once (`Memory`), and equal messages become one
object (`MessageTable`). So the time and memory of a turn depend only on its new messages.

Rules of the table:

1. Messages count as equal only if all their bytes are equal. So no information is lost when one object replaces
   several.
2. A conversation is first compared with the newest conversation, message by message; identical objects are equal. Each
   message that differs is then looked up among the messages with the same glance (a key that is made quickly from a
   part of the message).
3. Long texts are not hashed as a whole, so a new message takes hardly more time than a known message.
4. Up to `_CROWD` messages with the same glance are compared one by one; further messages are found by a hash of their
   whole content. So the time of a call is proportional to the size of the call, whatever an agent sends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_, is_not, ne
from typing import Any, TypeVar

import msgspec

from .content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .frozen import frozen, frozen_request, is_constant
from .request import Request

T = TypeVar("T")

_SHORT = 64
_HASHED = 4 * 1024
"""Maximum characters that a glance hashes, from the beginning of each text."""
_CROWD = 8
"""Maximum messages with the same glance that are compared one by one."""
_REWRITTEN = 3
"""Maximum items at the end of a conversation that an agent usually changes in its next call."""
_ATOMS = (str, int, float, type(None))
"""Types of JSON values of which Python may use one object for all equal values."""
_LONG = 32
"""Minimum messages of a conversation that are checked with `is_exact`. A shorter conversation is compared in less
time than such a check takes."""
_CHECKED = 64
"""Maximum messages that one call checks with `is_exact`."""


@dataclass
class _Latest:
    """The latest request in one dialect: its document and the parsed values."""

    constant: dict[str, Json] | None
    """The document without the conversation. None if one of its values is a dict or a list, which other code could
    change."""
    written: bytes | None
    """The encoded document without the conversation, if `constant` is None. None if the document cannot be encoded (for
    example, because of a number beyond 64 bits); such a document counts as different from every other document."""
    request: Request
    before: int
    """The number of messages that come from other fields than the conversation, such as a field with the system
    prompt."""

    def has_rest(self, rest: dict[str, Json]) -> bool:
        """Return True if `rest`, a document without its conversation, equals the one of this request.

        Documents are compared in encoded form, because in Python `true` equals 1, 1 equals 1.0, and objects have no
        order. Identical values, and texts that differ, need no encoding.
        """
        known = self.constant
        if known is not None:
            if [*rest] != [*known]:
                return False
            if all(map(is_, rest.values(), known.values())):
                return True
            pairs = zip(rest.values(), known.values(), strict=True)
            if any(type(new) is str and new != old for new, old in pairs):
                return False
        written = _written(rest)
        if written is None or written != (self.written if known is None else _written(known)):
            return False
        if is_constant(rest.values()):
            self.constant, self.written = rest, None
        return True


class Memory:
    """The items of an agent's latest request, and the values that were parsed from these items.

    The memory keeps the items of each dialect and field separately. A parsed value must depend only on its item. The
    JSON in a parsed value is read-only (`frozen`), because later calls return the same value.
    """

    def __init__(self) -> None:
        self._requests: dict[str, _Latest] = {}
        self._latest: dict[tuple[str, str], tuple[tuple[Json, ...], Sequence[object]]] = {}
        self._groups: dict[tuple[str, str], tuple[tuple[Json, ...], Sequence[Any]]] = {}

    def fork(self) -> Memory:
        other = Memory()
        other._requests, other._latest, other._groups = {**self._requests}, {**self._latest}, {**self._groups}
        return other

    def request(
        self,
        document: Json,
        field: str,
        parse: Callable[[Json], tuple[Request, int]],
        parse_conversation: Callable[[list[Json]], Sequence[Message]],
        dialect: str,
    ) -> Request:
        """Return the parsed request.

        If only the conversation differs from the latest request, parse only the conversation.

        Args:
            document: the body, decoded.
            field: the field of the document that contains the conversation.
            parse: a function that parses the whole document. The function returns the request, and the number of
                messages that come from other fields than `field`.
            parse_conversation: a function that parses the items of `field`. This function is called only if `field` has
                items.
            dialect: the dialect of the document.

        Raises:
            DialectError: raised by `parse` or `parse_conversation`.
        """
        if not isinstance(document, dict):
            return parse(document)[0]
        rest = {**document}
        items, latest = rest.pop(field, None), self._requests.get(dialect)
        if latest is not None and isinstance(items, list) and items and latest.has_rest(rest):
            head = latest.request.messages[: latest.before]
            return msgspec.structs.replace(latest.request, messages=(*head, *parse_conversation(items)))
        request, before = parse(document)
        request = frozen_request(request, before)
        constant = rest if is_constant(rest.values()) else None
        written = _written(rest) if constant is None else None
        self._requests[dialect] = _Latest(constant, written, request, before)
        return request

    def read(
        self,
        dialect: str,
        field: str,
        items: Sequence[Json],
        parse: Callable[[Json, str], T],
    ) -> tuple[T, ...]:
        """Return the parsed items. Items that did not change since the last call are not parsed again.

        Args:
            dialect: the dialect of the items.
            field: the field of the document that holds the items.
            items: the received items. The memory keeps these items, so the caller must not change them later.
            parse: a function that parses an item; its arguments are the item and the item's path.
        """
        items = (*items,)
        old, made = self._latest.get((dialect, field), ((), ()))
        same = 0
        if items and old:
            if items[0] is old[0]:  # otherwise the document shares no item with the last one
                same = shared_head(items, old)
            if same < len(items) and same < len(old):
                same += _equal_head(items[same:], old[same:]) if same else _equal_head(items, old)
        new = [frozen(parse(items[number], f"{field}[{number}]")) for number in range(same, len(items))]
        parsed = made if same == len(made) and not new else (*made[:same], *new)
        self._latest[dialect, field] = items, parsed
        return parsed  # type: ignore[return-value]

    def group(
        self,
        dialect: str,
        field: str,
        items: Sequence[Json],
        group: Callable[[Sequence[Json], int, Sequence[T]], Sequence[T]],
    ) -> Sequence[T]:
        """Combine the items into groups, and return the groups. Each group becomes one message.

        Args:
            dialect: the dialect of the items.
            field: the field of the document that holds the items.
            items: the received items.
            group: a function that returns the groups. Its arguments are the items, the number of items at the beginning
                that are the same objects as in the latest call, and the groups of the latest call.
        """
        old, groups = self._groups.get((dialect, field), ((), ()))
        known = (*items,)
        groups = group(items, shared_head(known, old), groups)
        self._groups[dialect, field] = known, groups
        return groups


class MessageTable:
    """The distinct messages of one rollout."""

    def __init__(self) -> None:
        self._alike: dict[int, tuple[Message, ...]] = {}
        """Kept messages, by the hash of their glance (see `_glance`). The glance itself is not used as the key, because
        the glance takes half as much memory as a message of a few lines."""
        self.given_form: dict[int, Message] = {}
        """For each message that is kept in another form than received: the received message. The dict's key is the
        Python `id` of the kept message."""
        self._given: tuple[Message, ...] = ()
        """The messages of the latest conversation, as received."""
        self._kept: tuple[Message, ...] = ()
        """The kept messages of the latest conversation."""
        self._exact = 0
        """A number of messages at the beginning of `_given`, all of which are exact (see `is_exact`)."""

    def intern(
        self, messages: tuple[Message, ...], kept_form: Callable[[Message], Message] | None = None
    ) -> tuple[Message, ...]:
        """Return the conversation, but replace each message that equals a kept message by the kept object.

        If no message is replaced, return the same tuple.

        Args:
            messages: a conversation.
            kept_form: a function that returns the form in which a new message is kept. None means that the message
                itself is kept.
        """
        exact = self._exact
        head = (
            shared_head(messages, self._given, exact) if exact else common_head(messages, self._given, is_not)
        )
        ours = head if self._kept is self._given else common_head(messages, self._kept, is_not)
        head = max(head, ours)
        kept = [
            old if new is was or new is old else self._find(new, kept_form)
            for new, was, old in zip(messages[head:], self._given[head:], self._kept[head:], strict=False)
        ]
        kept += [self._find(message, kept_form) for message in messages[head + len(kept) :]]
        shared = ours == head and all(map(is_, kept, messages[head:]))
        self._given, self._kept = messages, messages if shared else (*self._kept[:head], *kept)
        if exact or head >= _LONG:
            exact = min(exact, head)
            most = min(exact + _CHECKED, head)
            while exact < most and is_exact(messages[exact]):
                exact += 1
            self._exact = exact
        return self._kept

    def _find(self, message: Message, kept_form: Callable[[Message], Message] | None) -> Message:
        """Return the kept message that equals `message`. If no kept message is equal, keep and return `message`."""
        look = hash(_glance(message))
        alike = self._alike.get(look, ())
        found = self._equal(message, alike)
        if found is None and len(alike) >= _CROWD:
            look = hash((look, _as_json(message)))
            alike = self._alike.get(look, ())
            found = self._equal(message, alike)
        if found is not None:
            return found
        kept = message if kept_form is None else kept_form(message)
        if kept is not message:
            self.given_form[id(kept)] = message
        self._alike[look] = (*alike, kept)
        return kept

    def _equal(self, message: Message, alike: tuple[Message, ...]) -> Message | None:
        for known in alike:
            if equal_messages(self.given_form.get(id(known), known), message):
                return known
        return None


def common_head(
    items: Sequence[object], old: Sequence[object], differ: Callable[[Any, Any], object] = ne
) -> int:
    """Return how many items at the beginning of both sequences are equal.

    If `differ` is `is_not`, count items that are the same object. Each item up to the first difference is compared
    once, in C code.
    """
    return next(compress(count(), map(differ, items, old)), min(len(items), len(old)))


def shared_head(items: Sequence[object], old: Sequence[object], exact: int | None = None) -> int:
    """Return how many items at the beginning of two tuples, or of two lists, are the same objects.

    An agent repeats all items, or all except the last few. If the last of these repeated items is the same object in
    both, all items before it are compared with `==`. This takes a tenth of the time, because for an identical
    object, Python does not call `==`. But an item that is equal and not identical is counted, too.

    Args:
        items: the items of a call.
        old: the items of the previous call.
        exact: the number of items at the beginning of `old` that may be compared with `==`. Default: all items. An item
            that contains JSON may equal an item with other JSON, because 1 equals `True` in Python.
    """
    size = min(len(items), len(old))
    for end in (size, size - _REWRITTEN):
        if exact is not None and exact < end:
            end = exact
        if end <= 0 or (last := items[end - 1]) is not old[end - 1] or isinstance(last, _ATOMS):
            continue
        if items[:end] == old[:end]:
            return end if end == size else end + common_head(items[end:], old[end:], is_not)
    return common_head(items, old, is_not)


def is_exact(message: Message) -> bool:
    """Return True if each message that is equal to `message` has the same JSON encoding.

    Return False if the message contains JSON, because 1 equals `True` in Python.
    """
    if message.extra is not None:
        return False
    parts: list[Part] = [*message.content]
    for part in parts:
        if isinstance(part, Opaque) or part.extra is not None:
            return False
        if isinstance(part, ToolResult):
            parts += part.content
    return True


def _equal_head(items: Sequence[Json], old: Sequence[Json]) -> int:
    """Return how many items at the beginning of both lists are equal and have the same JSON encoding."""
    try:
        same = common_head(items, old)
    except RecursionError:
        return 0
    if same and not _is_written_as(items[:same], old[:same]):
        alike = map(_is_written_as, items[:same], old)
        same = next((number for number, is_alike in enumerate(alike) if not is_alike), same)
    return same


def _written(rest: dict[str, Json]) -> bytes | None:
    try:
        return _encoder.encode(rest)
    except _UNWRITABLE:
        return None


def _is_written_as(new: Json, old: Json) -> bool:
    """Return True if two equal values also have the same JSON encoding (see `_Latest.rest`).

    The comparison takes 40 µs for 900 KB.

    The buffers for the encodings are reused, because writing to new memory pages takes 20 times as long. Only this
    function writes to these buffers, because a small write in between would shrink them.
    """
    try:
        buffers = _buffers.pop()
    except IndexError:  # another thread may have taken the last buffers
        buffers = (bytearray(), bytearray())
    one, other = buffers
    try:
        _encoder.encode_into(new, one)
        _encoder.encode_into(old, other)
        return one == other
    except _UNWRITABLE:
        return False
    finally:
        if len(one) <= _KEPT and len(other) <= _KEPT:
            _buffers.append(buffers)


def equal_messages(one: Message, other: Message) -> bool:
    """Return True if two messages are equal and also have the same JSON encoding.

    The encodings are compared because 1 equals True in Python, but not in JSON.
    """
    plain = one.extra is None and all(type(part) is Text and part.extra is None for part in one.content)
    return one == other and (plain or _as_json(one) == _as_json(other))  # `==` is exact for plain text


def _glance(message: Message) -> Hashable:
    """Return a key of a message that is made quickly from a part of the message.

    Equal messages have equal keys. Nearly all different messages have different keys, but not all (see rule 4 at the
    top of this module).
    """
    parts = [
        part.text
        if type(part) is Text and part.extra is None and len(part.text) <= _SHORT
        else _part_glance(part)
        for part in message.content
    ]
    glance = (message.role, message.name, *parts)
    return glance if message.extra is None else (*glance, _json_glance(message.extra))


def _part_glance(part: Part) -> Hashable:
    glance: Hashable
    match part:
        case Opaque(raw=raw):
            return _json_glance(raw)
        case Text(text=text) | RefusalText(text=text):
            glance = _text_glance(text)
        case ToolCall(id=identity, name=name, arguments=arguments):
            glance = (identity, name, _text_glance(arguments))
        case ToolResult(id=identity, content=content):
            glance = (identity, *map(_part_glance, content))
        case Reasoning(text=text, blobs=blobs):
            glance = (_text_glance(text), *(_text_glance(blob.data) for blob in blobs))
        case Media(url=url, data=data):
            glance = (_text_glance(url or ""), _text_glance(data or ""))
    return glance if part.extra is None else (glance, _json_glance(part.extra))


def _json_glance(value: Json) -> Hashable:
    return _text_glance(_as_json(value))


def _text_glance(text: str | bytes) -> Hashable:
    return text if len(text) <= _SHORT else (len(text), text[:_SHORT], text[-_SHORT:], hash(text[:_HASHED]))


_buffers: list[tuple[bytearray, bytearray]] = []
"""Pairs of buffers (see `_is_written_as`) that no thread uses at present. The number of pairs is the largest number of
threads that have parsed at the same time."""
_KEPT = 4 * 1024 * 1024
"""Maximum bytes of a buffer that is kept for reuse."""
_encoder = msgspec.msgpack.Encoder()
_as_json = msgspec.json.Encoder(order="deterministic").encode
_UNWRITABLE = (OverflowError, TypeError, ValueError, RecursionError)
