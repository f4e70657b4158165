"""Frames of HTTP/2: written one by one, right or wrong, and read."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import hpack

from .kind import as_text, expect

__all__ = [
    "CONTINUATION",
    "DATA",
    "GOAWAY",
    "HEADERS",
    "PING",
    "PREFACE",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Got",
    "block",
    "frame",
    "kinds",
    "read",
]

PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: str = "", *, length: int | None = None) -> str:
    """A frame; `length` is what it says in place of the truth."""
    size = len(payload) if length is None else length
    head = (
        struct.pack(">I", size & 0xFFFFFF)[1:]
        + bytes([kind & 0xFF, flags & 0xFF])
        + struct.pack(">I", stream & 0xFFFFFFFF)
    )
    return as_text(head) + payload


def block(headers: list[tuple[str, str]]) -> str:
    """Headers, as they are: no table remembers them, so each block can be left out, or come twice."""
    data = b""
    for name, value in headers:
        for text in (b"\x10", name.encode("latin-1"), value.encode("latin-1")):
            data += text if text == b"\x10" else _length(len(text)) + text
    return as_text(data)


def _length(size: int) -> bytes:
    """An integer of 7 bits' prefix (RFC 7541, 5.1)."""
    if size < 127:
        return bytes([size])
    size, data = size - 127, b"\x7f"
    while size >= 128:
        size, data = size >> 7, data + bytes([size & 0x7F | 0x80])
    return data + bytes([size])


@dataclass
class Got:
    """What an endpoint has sent on one connection."""

    heads: dict[int, dict[str, str]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    reset: dict[int, int] = field(default_factory=dict)
    goaway: int | None = None
    data: int = 0
    """Bytes of DATA."""


def kinds(text: str) -> set[int]:
    """The kinds of the frames that a client has sent behind its preface, and begun to."""
    data, found = text.encode("latin-1"), set()
    at = len(PREFACE)
    while len(data) - at >= 4:
        found.add(data[at + 3])
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return found


def read(data: bytes, largest: int = 16384) -> Got:
    """All frames that an endpoint has sent; `largest`: what a payload of them may have.

    Raises:
        Violation: one of them is none, or stands where it may not.
    """
    got, decoder, at, first = Got(), hpack.Decoder(), 0, True
    decoder.max_allowed_table_size = 2**32  # the client may have allowed as much
    while len(data) - at >= 9:
        size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9], "big")
        payload = data[at + 9 : at + 9 + size]
        if len(payload) < size:
            break
        at += 9 + size
        expect(not first or kind == SETTINGS, "HTTP/2 does not begin with SETTINGS", kind)
        expect(size <= largest, "a frame is larger than allowed", size)
        first = False
        _take(got, decoder, kind, flags, stream, payload)
    return got


def _take(got: Got, decoder: Any, kind: int, flags: int, stream: int, payload: bytes) -> None:
    if kind in (DATA, HEADERS):
        expect(
            stream not in got.ended and stream not in got.reset,
            "a frame behind the end of its stream",
            (kind, stream),
        )
    match kind:
        case 1:
            expect(flags & END_HEADERS, "a head in pieces", flags)
            headers = dict(decoder.decode(payload))
            if not headers[":status"].startswith("1"):
                expect(stream not in got.heads, "a stream is answered twice", headers)
                got.heads[stream], got.bodies[stream] = headers, b""
        case 0:
            expect(stream in got.heads, "a body without a head", stream)
            got.bodies[stream] += payload
            got.data += len(payload)
        case 3:
            got.reset[stream] = int.from_bytes(payload, "big")
        case 7:
            got.goaway = int.from_bytes(payload[4:8], "big")
        case 4 | 6 | 8:
            pass
        case _:
            expect(False, "a frame that no server sends", kind)
    if kind in (DATA, HEADERS) and flags & END_STREAM:
        got.ended.add(stream)
