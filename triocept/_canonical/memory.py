"""What stands where it stood in the last call: it is not read again, and it is kept once.

An agent sends its whole conversation with every call, and changes little in it. Claude Code, for one, moves its cache
mark from the last message to the new last one, and writes what had the mark anew: all but the last one to three are as
they were. What is equal is read once (`Memory`), and equal messages become one object (`MessageTable`): what a turn
costs is what is new in it.

Rules of the table:

1. Equal means equal to the last byte: nothing is lost by sharing.
2. The newest conversation is compared first: what is the same object is passed over, then message by message. What
   differs from it is looked for among those that look like it at a glance.
3. No megabyte is hashed: a message that is new costs about as little as one that is known.
4. What looks alike at a glance is compared one by one, but not by the dozen: further ones are known by all that they
   say. So whatever an agent sends, its call takes time in proportion to that.
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
from .request import Request

T = TypeVar("T")

_SHORT = 64
_HASHED = 64 * 1024
"""Characters."""
_CROWD = 8
"""Messages that look alike at a glance."""


@dataclass(frozen=True)
class _Latest:
    """The latest request in a dialect."""

    rest: bytes | None
    """Its document, but for the conversation, in bytes that no other has: to Python `true` is 1, 1 is 1.0, and objects
    have no order. None: it cannot be written (a number beyond 64 bits, say), and so is like no other."""
    request: Request
    before: int
    """How many of its messages are not of the conversation: system prompts that stand elsewhere."""


class Memory:
    """The wire items of the latest call, and what they were read into.

    Holds one call's items for each use, no more. What is read out of an item must depend on the item alone, and be
    immutable: it is given out again.
    """

    def __init__(self) -> None:
        self._requests: dict[str, _Latest] = {}
        self._latest: dict[tuple[str, str], tuple[Sequence[Json], Sequence[object]]] = {}

    def request(
        self,
        document: Json,
        field: str,
        parse: Callable[[Json], tuple[Request, int]],
        parse_conversation: Callable[[list[Json]], Sequence[Message]],
        dialect: str,
    ) -> Request:
        """The request; of one that differs from the latest in its conversation only, nothing else is read.

        Args:
            document: as it came.
            field: its field that holds the conversation.
            parse: reads the whole of it; gives the number of messages, too, that are not of the conversation.
            parse_conversation: reads a list that is not empty.
            dialect: in which it is.

        Raises:
            DialectError: from the two.
        """
        if not isinstance(document, dict):
            return parse(document)[0]
        rest = {**document}
        items, latest = rest.pop(field, None), self._requests.get(dialect)
        try:
            written = _encoder.encode(rest)
        except _UNWRITABLE:
            written = None
        if latest is not None and isinstance(items, list) and items and written and written == latest.rest:
            head = latest.request.messages[: latest.before]
            return msgspec.structs.replace(latest.request, messages=(*head, *parse_conversation(items)))
        request, before = parse(document)
        self._requests[dialect] = _Latest(written, request, before)
        return request

    def read(
        self, dialect: str, field: str, items: Sequence[Json], parse: Callable[[Json, str], T]
    ) -> tuple[T, ...]:
        """The items, parsed; those that stand where they stood last time are not parsed again.

        Args:
            dialect: in which they are.
            field: of the document, that holds them.
            items: the list as it came. It is kept, and must not be changed afterwards.
            parse: takes an item and its path.
        """
        old, made = self._latest.get((dialect, field), ([], ()))
        try:
            same = common_head(items, old)
        except RecursionError:
            same = 0
        if same and not _is_written_as(items[:same], old[:same]):
            alike = map(_is_written_as, items[:same], old)
            same = next((number for number, is_alike in enumerate(alike) if not is_alike), same)
        new = [parse(items[number], f"{field}[{number}]") for number in range(same, len(items))]
        parsed = (*made[:same], *new)
        self._latest[dialect, field] = (items, parsed)
        return parsed  # type: ignore[return-value]


class MessageTable:
    """The distinct messages of one rollout."""

    def __init__(self) -> None:
        self._alike: dict[int, tuple[Message, ...]] = {}
        """What is kept, by the hash of its glance: the glance itself is half as large as a message of a few lines."""
        self.given_form: dict[int, Message] = {}
        """As they came, messages that are kept otherwise; by the `id` of what is kept."""
        self._given: tuple[Message, ...] = ()
        """The conversation that came last, as it came."""
        self._kept: tuple[Message, ...] = ()
        """The same, as it is kept."""

    def intern(
        self, messages: tuple[Message, ...], kept_form: Callable[[Message], Message] | None = None
    ) -> tuple[Message, ...]:
        """The same messages, as the objects that earlier turns hold; the very tuple, if it holds them.

        Args:
            messages: a conversation.
            kept_form: makes of a message that is new what is kept of it; None: it is kept as it is.
        """
        head = common_head(messages, self._given, is_not)
        ours = head if self._kept is self._given else common_head(messages, self._kept, is_not)
        head = max(head, ours)
        kept = [
            old if new is was or new is old else self._find(new, kept_form)
            for new, was, old in zip(messages[head:], self._given[head:], self._kept[head:], strict=False)
        ]
        kept += [self._find(message, kept_form) for message in messages[head + len(kept) :]]
        shared = ours == head and all(map(is_, kept, messages[head:]))
        self._given, self._kept = messages, messages if shared else (*self._kept[:head], *kept)
        return self._kept

    def _find(self, message: Message, kept_form: Callable[[Message], Message] | None) -> Message:
        """What is kept of it."""
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
        """The one of these that is equal to it."""
        for known in alike:
            if equal_messages(self.given_form.get(id(known), known), message):
                return known
        return None


def common_head(
    items: Sequence[object], old: Sequence[object], differ: Callable[[Any, Any], object] = ne
) -> int:
    """How many items at the head are equal to the old ones, or the very same objects (`differ` is `is_not`): each is
    looked at once, at the speed of C, up to the first difference."""
    return next(compress(count(), map(differ, items, old)), min(len(items), len(old)))


def _is_written_as(new: Json, old: Json) -> bool:
    """Whether equal values are written alike (see `_Latest`), at the speed of C: 40 µs for 900 KB, into pages that are
    there already; new ones take 20 times as long, so nothing small is written in between, which gives them back."""
    try:
        buffers = _buffers.pop()
    except IndexError:  # another thread may have taken the last
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
    """Whether they are equal to the last byte. (Python holds 1 and True for equal, which JSON does not.)"""
    return one == other and (_is_plain(one) or _as_json(one) == _as_json(other))


def _is_plain(message: Message) -> bool:
    """Whether it is text and nothing else: then equal is equal."""
    return message.extra is None and all(
        type(part) is Text and part.extra is None for part in message.content
    )


def _glance(message: Message) -> Hashable:
    """Equal for equal messages, cheap, and of nearly all others it differs.

    What differs and looks alike is compared one by one, as long as it is little.
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
    if isinstance(part, Opaque):
        return _json_glance(part.raw)
    glance = _own_glance(part)
    return glance if part.extra is None else (glance, _json_glance(part.extra))


def _own_glance(part: Part) -> Hashable:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return _text_glance(text)
        case ToolCall(id=identity, name=name, arguments=arguments):
            return (identity, name, _text_glance(arguments))
        case ToolResult(id=identity, content=content):
            return (identity, *map(_part_glance, content))
        case Reasoning(text=text, blobs=blobs):
            return (_text_glance(text), *(_text_glance(blob.data) for blob in blobs))
        case Media(url=url, data=data):
            return (_text_glance(url or ""), _text_glance(data or ""))
        case _:
            return type(part)


def _json_glance(value: Json) -> Hashable:
    return _text_glance(_as_json(value))


def _text_glance(text: str | bytes) -> Hashable:
    return text if len(text) <= _SHORT else (len(text), text[:_SHORT], text[-_SHORT:], hash(text[:_HASHED]))


_buffers: list[tuple[bytearray, bytearray]] = []
"""Those that nobody uses: as many as there ever were threads at once that read."""
_KEPT = 4 * 1024 * 1024
"""Bytes of a buffer that is kept."""
_encoder = msgspec.msgpack.Encoder()
_as_json = msgspec.json.Encoder(order="deterministic").encode
_UNWRITABLE = (OverflowError, TypeError, ValueError, RecursionError)
