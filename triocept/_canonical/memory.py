"""What stands where it stood in the last call, so as not to read it again.

An agent sends its whole conversation with every call, and changes little in it. Claude Code, for one, moves its cache
mark from the last message to the new last one, and writes what had the mark anew: all but the last one to three are as
they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not, ne
from typing import TypeVar

import msgspec

from .content import Json, Message
from .request import Request

__all__ = ["Memory", "equal_head", "same_head"]

T = TypeVar("T")


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
            same = equal_head(items, old)
        except RecursionError:
            same = 0
        if same and not _is_written_as(items[:same], old[:same]):
            alike = map(_is_written_as, items[:same], old)
            same = next((number for number, is_alike in enumerate(alike) if not is_alike), same)
        new = [parse(items[number], f"{field}[{number}]") for number in range(same, len(items))]
        parsed = (*made[:same], *new)
        self._latest[dialect, field] = (items, parsed)
        return parsed  # type: ignore[return-value]


def equal_head(items: Sequence[object], old: Sequence[object]) -> int:
    """How many items at the head are equal to the old ones: each is looked at once, at the speed of C, up to the first
    difference."""
    return next(compress(count(), map(ne, items, old)), min(len(items), len(old)))


def same_head(items: Sequence[object], old: Sequence[object]) -> int:
    """How many items at the head are the very same objects as the old ones; likewise."""
    return next(compress(count(), map(is_not, items, old)), min(len(items), len(old)))


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


_buffers: list[tuple[bytearray, bytearray]] = []
"""Those that nobody uses: as many as there ever were threads at once that read."""
_KEPT = 4 * 1024 * 1024
"""Bytes of a buffer that is kept."""
_encoder = msgspec.msgpack.Encoder()
_UNWRITABLE = (OverflowError, TypeError, ValueError, RecursionError)
