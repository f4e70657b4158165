"""JSON that a client sends, and the requests that large documents say.

Rules:

1. A large body is decoded piece by piece, with a schedule point between: agents send five megabytes when they have
   looked at a picture, and other agents must not wait for that. No piece can be smaller than one item of its longest
   lists.
2. What a document becomes is bounded before it is decoded: `[],` is three bytes, and 72 as a value.
3. A request of very many items is read in a thread, then counted and kept in steps: an item costs some microseconds, so
   a document of 100,000 would hold up every other agent for half a second. What is usual is read in place.
4. Whether there are many is asked only of a large body, and is a look at its lists.
5. A thread has the rollout's memory for itself: what another call reads meanwhile has a fresh one, which is given up.
6. What the estimate and the table of messages know already costs them next to nothing when the call is recorded.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._rollout.rollout_state import RolloutState
from ..dialects import Dialect, Target
from ..dialects.kit import decode_json
from ..errors import DialectError, Refusal

LARGE = 512 * 1024
"""Bytes that are decoded in one go: about half a millisecond. A larger body is asked whether it has many items; what is
smaller is read by its dialect at once."""
_STEP = 256 * 1024
"""Bytes that are counted in one go."""
_PIECE = 16 * 1024
"""Bytes that are cut at their quotes in one go."""
_MARKS = (b",", b"[", b"{")
"""What stands before each value, but the first of all and those of an object's only key."""
_EACH = 200
"""Bytes: as long as it takes to decode so many, it takes to begin with one value."""
_LIST = ord("[")
_decode = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def read_body(body: bytes, max_items: int) -> Json:
    """Decode a body. A schedule point only where it is large.

    Raises:
        DialectError: it is no JSON.
        Refusal: 413, it has more than `max_items` values.
    """
    if len(body) > max_items and await _has_more(body, max_items):
        raise Refusal(413, f"the body has more than {max_items:,} values", should_retry=False)
    if len(body) > LARGE:
        # What is no object, or not JSON, is looked at again: the error says where, and of the whole.
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return await _decode_in_pieces(body)
    try:
        return decode_json(body)
    except DialectError as exc:
        raise DialectError(f"the body is {exc}") from exc


async def _decode_in_pieces(body: bytes) -> Json:
    document: dict[str, Json] = {}
    left = LARGE
    fields = _fields(body)
    await trio.lowlevel.checkpoint()
    for name, value in fields.items():
        data = memoryview(value)
        if data[0] != _LIST:
            document[name] = _decode(value)
            left -= len(data) + _EACH
        else:
            document[name] = items = []
            await trio.lowlevel.checkpoint()
            for item in _items(value):
                items.append(_decode(item))
                left -= len(memoryview(item)) + _EACH
                if left < 0:
                    left = LARGE
                    await trio.lowlevel.checkpoint()
        if left < 0:
            left = LARGE
            await trio.lowlevel.checkpoint()
    return document


async def _has_more(body: bytes, most: int) -> bool:
    """Whether there are more than so many marks outside of its strings."""
    marks = 0
    for start in range(0, len(body), _STEP):
        marks += _marks(body, start, start + _STEP)
        await trio.lowlevel.checkpoint()
    return marks > most and await _has_more_outside(body, most)


async def _has_more_outside(body: bytes, most: int) -> bool:
    """The same, where the strings have to be told apart: prose has commas, too."""
    at = marks = quotes = 0
    while at < len(body) and marks <= most and quotes <= 4 * most:  # between two strings: a mark or a colon
        piece = _whole_escapes(body[at : at + _PIECE])
        if at // _STEP != (at + len(piece)) // _STEP:
            await trio.lowlevel.checkpoint()
        at += len(piece)
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = piece.split(b'"')  # by turns in a string, and outside
        outside = b"".join(pieces[quotes % 2 :: 2])
        marks += _marks(outside, 0, len(outside))
        quotes += len(pieces) - 1
    return marks > most or quotes > 4 * most


def _whole_escapes(piece: bytes) -> bytes:
    """The piece, but for a backslash at its end, which belongs to what comes next."""
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return piece[:-1] if backslashes % 2 and len(piece) > 1 else piece


def _marks(body: bytes, start: int, end: int) -> int:
    return sum(body.count(mark, start, end) for mark in _MARKS)


_MANY = 10_000
"""Items that are read in place: 10 to 30 ms."""
_STEPS = 8


async def read_large(dialect: Dialect, document: Json, target: Target, rollout: RolloutState) -> Request:
    """The request that a large body says. A schedule point only where it has very many items.

    Args:
        dialect: in which it is.
        document: the body, decoded.
        target: what its path said.
        rollout: whose call it is.

    Raises:
        DialectError: with the path in the document.

    Cancellation: the thread is waited for, a second or two.
    """
    if not _has_many(document):
        return dialect.parse_request(document, target, rollout.memory)
    memory, rollout.memory = rollout.memory, Memory()
    try:
        request = await trio.to_thread.run_sync(dialect.parse_request, document, target, memory)
    finally:
        rollout.memory = memory
    await _count(request, rollout)
    return request


def _has_many(document: Json) -> bool:
    """Whether its lists, and those of their items, are that long."""
    lists = (
        [value for value in document.values() if type(value) is list] if isinstance(document, dict) else []
    )
    count = sum(map(len, lists))
    if count <= _MANY:
        items = (item for items in lists for item in items if type(item) is dict)
        count += sum(len(inner) for item in items for inner in item.values() if type(inner) is list)
    return count > _MANY


async def _count(request: Request, rollout: RolloutState) -> None:
    """Estimate the tokens and keep the messages, as far as they go, a piece at a time."""
    count = len(request.messages)
    step = max(_MANY, count // _STEPS)
    for end in range(step, count + step, step):
        head = msgspec.structs.replace(request, messages=request.messages[:end])
        rollout.estimator.input_tokens(head)
        await trio.lowlevel.checkpoint()
        rollout.records.redactor.request(head)
        await trio.lowlevel.checkpoint()
