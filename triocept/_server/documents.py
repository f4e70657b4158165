"""JSON that a client sends.

A large body is decoded piece by piece, with a schedule point between: agents send five megabytes when they have looked
at a picture, and other agents must not wait for that. No piece can be smaller than one item of its longest lists.

What a document becomes is bounded before it is decoded: `[],` is three bytes, and 72 as a value.
"""

from __future__ import annotations

import re

import msgspec
import trio

from .._canonical.content import Json
from ..dialects._json import decode_json
from ..errors import DialectError, Refusal

__all__ = ["read_body", "read_json"]

_LARGE = 512 * 1024
"""Bytes that are decoded in one go: about half a millisecond."""
_STEP = 1024 * 1024
"""Bytes that are counted in one go."""
_MARKS = (b",", b"[", b"{")
"""What stands before each value, but the first of all and those of an object's only key."""
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
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
    if len(body) <= _LARGE:
        return read_json(body, "the body")
    try:
        return await _read_large(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return read_json(body, "the body")  # no object, or not JSON: the error says where, and of the whole


def read_json(data: bytes | str, what: str) -> Json:
    """Decode a document.

    Raises:
        DialectError: it is no JSON.
    """
    try:
        return decode_json(data)
    except DialectError as exc:
        raise DialectError(f"{what} is {exc}") from exc


async def _read_large(body: bytes) -> Json:
    document: dict[str, Json] = {}
    left = _LARGE
    for name, value in _fields(body).items():
        await trio.lowlevel.checkpoint()
        if bytes(memoryview(value)[:1]) != b"[":
            document[name] = msgspec.json.decode(value)
            continue
        document[name] = items = []
        for item in _items(value):
            items.append(msgspec.json.decode(item))
            left -= len(memoryview(item))
            if left < 0:
                left = _LARGE
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
    marks = strings = at = 0
    in_string, due = False, _STEP
    while (
        at < len(body) and marks <= most and strings <= 2 * most
    ):  # between two strings there is a mark or a colon
        if at >= due:
            due = at + _STEP
            await trio.lowlevel.checkpoint()
        if in_string:
            end = _string_end(body, at)
            in_string = body[end : end + 1] != b'"'
            at = max(end, at + 1) if in_string else end + 1
        else:
            quote = body.find(b'"', at, at + _STEP)
            end = quote if quote >= 0 else min(at + _STEP, len(body))
            marks += _marks(body, at, end)
            in_string = quote >= 0
            strings += in_string
            at = end + in_string
    return marks > most or strings > 2 * most


def _marks(body: bytes, start: int, end: int) -> int:
    return sum(body.count(mark, start, end) for mark in _MARKS)


def _string_end(body: bytes, at: int) -> int:
    """Where the string that goes on at `at` has its last quote, or how far it was read."""
    found = _STRING.match(body, at, at + _STEP)
    return at if found is None else found.end()
