"""What was read last time, so as not to read it again.

An agent sends its whole conversation with every call, and most of it is what it sent before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from .content import Json, Message
from .head import equal_head
from .request import Request

__all__ = ["Memory"]

T = TypeVar("T")


@dataclass(frozen=True)
class _Latest:
    """The latest request in a dialect."""

    rest: dict[str, Json]
    """Its document, but for the conversation."""
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
        if latest is not None and isinstance(items, list) and items and _is_same(rest, latest.rest):
            head = latest.request.messages[: latest.before]
            return msgspec.structs.replace(latest.request, messages=(*head, *parse_conversation(items)))
        request, before = parse(document)
        self._requests[dialect] = _Latest(rest, request, before)
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
        same = _same_in_kind(items, old, equal_head(items, old))
        new = [parse(items[number], f"{field}[{number}]") for number in range(same, len(items))]
        parsed = (*made[:same], *new)
        self._latest[dialect, field] = (items, parsed)
        return parsed  # type: ignore[return-value]


def _same_in_kind(items: Sequence[Json], old: Sequence[Json], same: int) -> int:
    """How many of so many equal items at the head say the same: `true` is no 1, and 1 no 1.0.

    Both are written, which is what tells them apart at the speed of C (40 µs for 900 KB; into pages that are there
    already, for new ones take 20 times as long).
    """
    if not same:
        return 0
    buffers = _buffers.pop() if _buffers else (bytearray(), bytearray())
    try:
        for buffer, side in zip(buffers, (items, old), strict=True):
            _write(side[:same], buffer)
        return same if buffers[0] == buffers[1] else _first_other(items, old, same)
    except (
        OverflowError,
        TypeError,
        ValueError,
        RecursionError,
    ):  # a number beyond 64 bits: it is read afresh
        return 0
    finally:
        if len(buffers[0]) <= _KEPT:
            _buffers.append(buffers)


def _first_other(items: Sequence[Json], old: Sequence[Json], same: int) -> int:
    return next((number for number in range(same) if _bytes(items[number]) != _bytes(old[number])), same)


_buffers: list[tuple[bytearray, bytearray]] = []
"""Those that nobody uses: as many as there ever were threads at once that read."""
_KEPT = 4 * 1024 * 1024
"""Bytes of a buffer that is kept."""
_write = msgspec.msgpack.Encoder().encode_into
_bytes = msgspec.msgpack.Encoder(order="deterministic").encode


def _is_same(new: dict[str, Json], old: dict[str, Json]) -> bool:
    """Whether they say the same. `true` is no 1, and `false` no 0, though Python has them equal."""
    return new == old and _has_kinds_of(new, old)


def _has_kinds_of(new: dict[str, Json], old: dict[str, Json]) -> bool:
    """For equal objects; those in another order are taken for others, which are read afresh."""
    return [*map(type, new.values())] == [*map(type, old.values())] and all(
        _has_kinds_of(value, old[name])
        if type(value) is dict
        else type(value) is not list or _same_in_kind(value, old[name], len(value)) == len(value)
        for name, value in new.items()
    )
