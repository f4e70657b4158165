"""Define raw answers: bytes that are sent in place of an answer in the agent's dialect.

The bytes are sent unchanged, so a replay can send the recorded bytes again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from .._util.checks import check_choice, check_count, check_mapping, check_number, described
from .._util.figures import counted

RawEnd: TypeAlias = Literal["whole", "close", "reset", "stall"]
"""Way in which a raw answer ends. `whole`: as HTTP requires. `close`, `reset`: the connection is closed or reset.
`stall`: the connection stays open, but no more bytes are sent."""
Framing: TypeAlias = Literal["none", "own", "length", "chunked", "close"]
"""Framing of a raw answer's body, which shows where the body ends. `none`: the answer has no head. `own`: the server
adds the framing. `length`, `chunked`: the program's headers define the framing. `close`: the body ends when the
connection closes."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class RawResponse(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Raw bytes that were sent instead of an answer in the agent's dialect."""

    status: int | None = None
    """HTTP status; None if the bytes were sent without a head (status line and headers)."""
    headers: dict[str, str] = {}
    """Headers that the program passed, with names in lower case."""
    body: tuple[bytes | float, ...] = ()
    """Pieces of the body, each sent separately, and the pauses between the pieces, in seconds. Empty if the program has
    a `Redaction`."""
    size: int = 0
    """Number of bytes of the body that were sent, even if `body` is empty because of a `Redaction`."""
    end: RawEnd = "whole"

    @property
    def framing(self) -> Framing:
        """Framing of the body, computed from the other fields."""
        if self.status is None:
            return "none"
        if "content-length" in self.headers:
            return "length"
        if "transfer-encoding" in self.headers:
            return "chunked"
        return "own" if self.end == "whole" else "close"

    @property
    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """The pieces of the body, as pairs: the pause in seconds before the piece, and the piece.

        For a pause at the end, the piece is empty.
        """
        pause = 0.0
        for item in self.body:
            if isinstance(item, bytes):
                yield pause, item
                pause = 0.0
            else:
                pause += item
        if pause:
            yield pause, b""

    def __str__(self) -> str:
        head = "raw bytes without a head" if self.status is None else "raw bytes"
        return f"{head}: {counted(self.size, 'byte', 'bytes')} of a body, then {_ENDS[self.end]}"


_ENDS = {
    "whole": "the regular end of the body",
    "close": "the connection was closed",
    "reset": "the connection was reset",
    "stall": "the connection stayed open without data",
}


_BODY = "body must be bytes, or an iterable of bytes and of pauses (seconds)"


def given_raw(
    status: object, headers: object, body: object, end: object, most: int | None = None
) -> RawResponse:
    """Check the arguments of `exchange.respond_raw`, and return them as a RawResponse.

    `body` must contain all pieces; it must not generate them.

    Args:
        most: maximum bytes of the body; None means no maximum.

    Raises:
        TypeError, ValueError: an argument is invalid; the text names the argument.
    """
    if status is not None:
        check_count("status", status)
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"status must be from 200 to 599, or None to send no head, not {status!r}")
    check_choice("end", end, RawEnd)
    given = _given_headers(headers)
    if status is None and given:
        raise ValueError("headers need a status: without a status, no head is sent")
    items = [body] if isinstance(body, (bytes, bytearray, memoryview)) else body
    if isinstance(items, (str, Mapping)) or not isinstance(items, Iterable):
        raise TypeError(f"{_BODY}, not {described(body)}")
    pieces = tuple(
        [piece for number, item in enumerate(items) if (piece := given_piece(number, item)) != b""]
    )
    size = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    check_size(size, most)
    return RawResponse(status=status, headers=given, body=pieces, size=size, end=end)  # type: ignore[arg-type]


def is_made_on_the_way(body: object) -> bool:
    """Return True if the pieces of `body` are generated while it is sent, for example by a generator.

    Raises:
        TypeError: `body` is neither bytes nor an iterable.
    """
    if isinstance(body, (bytes, bytearray, memoryview, list, tuple)):
        return False
    if isinstance(body, (str, Mapping)) or not isinstance(body, (Iterable, AsyncIterable)):
        raise TypeError(f"{_BODY}, not {described(body)}")
    return not isinstance(body, Sequence)


def check_size(size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise ValueError(f"body has {size} bytes, but an answer may have at most {most} bytes")


def _given_headers(headers: object) -> dict[str, str]:
    check_mapping("headers", headers)
    assert isinstance(headers, Mapping)
    given: dict[str, str] = {}
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            text = f"headers must be a mapping of str to str, not of {described(name)} to {described(value)}"
            raise TypeError(text)
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"headers: {name!r}: {value!r} is not a valid header; to send an invalid head, write it in "
                "body, with status=None"
            )
        given[name.lower()] = value
    if given.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ValueError("headers: transfer-encoding must be chunked, or omitted")
    return given


def given_piece(number: int, item: Any) -> bytes | float:
    """Return `item`, an item of a body: bytes, or a pause in seconds. Raise an error if `item` is neither."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    try:
        check_number(f"body[{number}], a pause,", item)
    except TypeError:
        raise TypeError(
            f"body[{number}] must be bytes, or a number (a pause), not {described(item)}"
        ) from None
    return float(item)
