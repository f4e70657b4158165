"""Send answers that are raw bytes over HTTP/1.1.

Such bytes bypass the HTTP implementation, and the connection ends after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import trio

from .._trace.raw import RawEnd, RawResponse
from .base_connection import BaseConnection

_KNOWN = frozenset(HTTPStatus)
CLOSE_WITHIN = 1.0
"""Maximum seconds for sending the closing message of TLS."""


async def send_raw(
    connection: BaseConnection, raw: RawResponse, *, begins: bool = True, ends: bool = True
) -> None:
    """Send a raw response, or the next part of a raw response, with its pauses. See `Transport.send_raw`.

    Raises:
        trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError: see `Outbox.flush`.

    Cancellation: an unknown part of the bytes was sent.
    """
    for pause, data in raw_pieces(raw, connection.date(), begins=begins, ends=ends):
        if pause:
            await trio.sleep(pause)
        connection.outbox.write(data)
        await connection.outbox.flush()


async def end_raw(connection: BaseConnection, end: RawEnd) -> None:
    """End the connection as `end` specifies.

    If `end` is `stall`, the caller must first wait until the client disconnects.
    """
    if end == "reset":
        await connection.reset()
    else:
        await connection.close(CLOSE_WITHIN)


def raw_pieces(
    raw: RawResponse, date: str, *, begins: bool = True, ends: bool = True
) -> Iterator[tuple[float, bytes]]:
    """Yield pairs: the seconds to wait, and the bytes to write after this wait.

    The first piece contains the response head. If there is a pause before the first piece of the body, the head is
    yielded alone.
    """
    chunked = raw.framing == "chunked"
    head = b""
    if begins and raw.status is not None:
        reason = HTTPStatus(raw.status).phrase if raw.status in _KNOWN else ""
        lines = [
            f"HTTP/1.1 {raw.status} {reason}",
            *(f"{name}: {value}" for name, value in raw.headers.items()),
        ]
        if raw.framing == "close" and "connection" not in raw.headers:
            lines.append("connection: close")
        if "date" not in raw.headers:
            lines.append(f"date: {date}")
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
    for pause, data in raw.pieces:
        if pause and head:
            yield 0.0, head
            head = b""
        if chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        yield pause, head + data
        head = b""
    last = b"0\r\n\r\n" if ends and chunked and raw.end == "whole" else b""
    if head or last:
        yield 0.0, head + last
