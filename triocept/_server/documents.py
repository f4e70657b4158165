"""Decode the JSON bodies of requests without blocking the event loop, even if a body is large.

Rules:

1. A large body is decoded piece by piece, with a schedule point between the pieces. For example, the request of an
   agent with a picture has five megabytes. Other agents must not wait while this body is decoded. A piece contains at
   least one item of a list.
2. The number of values is limited before a body is decoded: `[],` has 3 bytes in JSON, but takes 72 bytes of memory.
   Commas and opening brackets are counted. Of a body that repeats an earlier body (`Repeat`), only the new bytes are
   counted; the number of the earlier body gives the rest (see `_count_new`). A body is refused only after all its bytes
   were counted.
3. A request with very many items (such as messages) is parsed in a thread. Then its tokens are estimated, and its
   messages are redacted, in steps with schedule points between them. Without a thread, a request with 100,000 items
   would delay every other agent for half a second, because an item takes some microseconds. A usual request is parsed
   without a thread.
4. Items are counted only if the body is not small. The number of items is the sum of the lengths of the body's lists.
5. While the thread runs, no other code uses the owner's `Memory` of parsed items. If another call is parsed at the same
   time, this call gets a new `Memory`, which is discarded after the parsing.
6. The estimated tokens and redacted messages of rule 3 are kept, so that recording the call later takes almost no time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._canonical.resent import Marks, Repeat
from .._rollout.rollout_state import RolloutState
from .._util.threads import run_in_thread
from ..dialects import Dialect, Target
from ..dialects.kit import decode_json
from ..errors import DialectError, Refusal

LARGE = 512 * 1024
"""Maximum bytes that are decoded without a schedule point. Decoding them takes about half a millisecond."""
SMALL = 64 * 1024
"""Maximum bytes of a small body, or of the new items of a body. The dialect gets them without a count of their items:
they have at most 22,000 values."""
_STEP = 256 * 1024
"""Number of bytes in which commas and brackets (see `count_marks`) are counted before the next schedule point."""
_PIECE = 16 * 1024
"""Number of bytes that are split at their quotes in one step."""
_EACH = 200
"""Number of bytes whose decoding takes as long as the additional time that each value takes."""
_LIST = ord("[")
_decode = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def read_body(body: bytes, max_items: int) -> Json:
    """Decode the JSON of a body. If the body is large, other tasks can run while this function works.

    Raises:
        DialectError: the body is not JSON.
        Refusal: with 413, because the body has more than `max_items` values.
    """
    await check_values(body, max_items)
    document = await read_unrepaired(body)
    if document is not None:
        return document
    try:
        return decode_json(body)
    except DialectError as exc:
        raise DialectError(f"the body is {exc}") from exc


async def check_values(body: bytes, max_items: int, repeat: Repeat | None = None) -> Marks | None:
    """Check the number of values in a body. If the body is large, other tasks can run while this function works.

    Return the number that was counted; None if the body has too few bytes for a count. `repeat` states which bytes of
    the body repeat an earlier body.

    Raises:
        Refusal: with 413, because the body has more than `max_items` values.
    """
    if len(body) <= max_items:
        return None
    if repeat is not None and (new := await _count_new(body, max_items, repeat)) is not None:
        return new
    if (marks := await _count(body, 0, len(body))) <= max_items:
        return Marks(marks, outside=False)
    outside, _ = await _count_outside(body, 0, len(body), max_items)
    if outside > max_items:
        raise Refusal(413, f"the body has more than {max_items:,} JSON values", should_retry=False)
    return Marks(outside, outside=True)


async def _count_new(body: bytes, max_items: int, repeat: Repeat) -> Marks | None:
    """Return the marks of a body that repeats an earlier body. Only the bytes that are not repeated are counted.

    Return None if the number is uncertain, or exceeds `max_items`.

    The number is exact: both bodies begin with the same bytes, and end with the same bytes, so they differ only in the
    marks of their middles. For marks outside of strings, this requires that no string is open where the middle begins,
    and where it ends. In the earlier body, which is valid JSON, an item ends at both places. The new body has the same
    bytes up to the first place. At the second place, `_count_outside` shows if a string is open.
    """
    old, known = repeat.conversation.body, repeat.conversation.marks
    start, old_end, end = repeat.start, len(old) - repeat.end, len(body) - repeat.end
    if known is None or old_end - start > len(body):  # then counting the whole body takes less time
        return None
    if not known.outside:
        count = known.number - await _count(old, start, old_end) + await _count(body, start, end)
        return Marks(count, outside=False) if count <= max_items else None
    before, _ = await _count_outside(old, start, old_end, len(old))
    new, is_outside = await _count_outside(body, start, end, max_items)
    count = known.number - before + new
    return Marks(count, outside=True) if is_outside and count <= max_items else None


async def read_unrepaired(body: bytes) -> Json:
    """Decode a body. Return None if the body is not JSON, or contains a lone surrogate, which must be repaired first.

    If the body is large, other tasks can run while this function works.
    """
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        # A large body that is not an object is decoded again whole: the error then names the position.
        return _decode(body) if len(body) <= LARGE else await _decode_in_pieces(body)
    return None


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


async def _count(body: bytes, start: int, end: int) -> int:
    """Return the number of marks in `body[start:end]`, inside and outside of strings."""
    marks = 0
    for at in range(start, end, _STEP):
        if at > start:
            await trio.lowlevel.checkpoint()
        marks += count_marks(body, at, min(at + _STEP, end))
    return marks


async def _count_outside(body: bytes, start: int, end: int, most: int) -> tuple[int, bool]:
    """Return the number of marks outside of strings in `body[start:end]`, and True if no string is open at `end`.

    `body[start]` must be outside of a string. If the number exceeds `most`, the counting ends, and the number is more
    than `most`. This also happens if there are too many strings: valid JSON has a mark or a colon between two strings.
    """
    at, marks, quotes, step = start, 0, 0, start // _STEP
    while at < end and marks <= most:
        piece = _whole_escapes(body[at : min(at + _PIECE, end)])
        at += len(piece)
        if at // _STEP != step:
            step = at // _STEP
            await trio.lowlevel.checkpoint()
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = piece.split(b'"')  # alternately inside and outside of a string
        outside = b"".join(pieces[quotes % 2 :: 2])
        marks += count_marks(outside, 0, len(outside))
        quotes += len(pieces) - 1
        if quotes > 4 * most:
            marks = most + 1
    return marks, quotes % 2 == 0


def count_marks(body: bytes, start: int, end: int) -> int:
    """Return the number of commas and opening brackets in `body[start:end]`, inside and outside of strings.

    The number of values in the document is at most one higher than the number of these characters.
    """
    return sum(body.count(mark, start, end) for mark in (b",", b"[", b"{"))


def _whole_escapes(piece: bytes) -> bytes:
    """Return `piece` without its last backslash if this backslash begins an incomplete escape sequence."""
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return piece[:-1] if backslashes % 2 and len(piece) > 1 else piece


_MANY = 10_000
"""Maximum items of a request that is parsed without a thread. Parsing them takes 10 to 30 ms."""
_STEPS = 8


class Remembering(Protocol):
    """An object that owns a `Memory` of parsed items: a rollout, or one of the rollout's conversations."""

    memory: Memory


async def read_large(
    dialect: Dialect, document: Json, target: Target, rollout: RolloutState, owner: Remembering
) -> Request:
    """Parse the request in a body that is not small.

    If the request has very many items, other tasks can run while this function works.

    Raises:
        DialectError: the body is not a valid request. The error's text contains the path of the invalid value.

    Cancellation: waits until the thread has ended, which can take two seconds.
    """
    if not _has_many(document):
        return dialect.parse_request(document, target, owner.memory)
    memory, owner.memory = owner.memory, Memory()
    try:
        request = await run_in_thread(dialect.parse_request, document, target, memory)
    finally:
        owner.memory = memory
    # The tokens are estimated, and the messages recorded, in advance and piece by piece.
    count = len(request.messages)
    step = max(_MANY, count // _STEPS)
    for end in range(step, count + step, step):
        head = msgspec.structs.replace(request, messages=request.messages[:end])
        rollout.estimator.input_tokens(head)
        await trio.lowlevel.checkpoint()
        rollout.records.redactor.request(head)
        await trio.lowlevel.checkpoint()
    return request


def _has_many(document: Json) -> bool:
    """Return True if the document's lists, and the lists in their items, have more than `_MANY` items altogether."""
    values = document.values() if isinstance(document, dict) else ()
    lists = [value for value in values if isinstance(value, list)]
    count = sum(map(len, lists))
    if count <= _MANY:
        items = (item for items in lists for item in items if isinstance(item, dict))
        count += sum(len(inner) for item in items for inner in item.values() if isinstance(inner, list))
    return count > _MANY
