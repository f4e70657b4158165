"""Sending to a client that may have stopped reading."""

from __future__ import annotations

import trio

from .wire import Wire

__all__ = ["send_to_reader"]

_PIECE = 64 * 1024
"""Bytes that have to be taken within the time: about what a kernel's buffer frees at once."""


async def send_to_reader(
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], wire: Wire, data: bytes, seconds: float
) -> None:
    """Send all of it: what the socket takes at once, the rest in pieces, each of which has so many seconds.

    Raises:
        trio.TooSlowError: the client has taken no more for so long.
        trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

    Cancellation: who knows how much was sent.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    sent = wire.send_now(data)
    while sent < len(data):
        with trio.fail_after(seconds):
            await stream.send_all(memoryview(data)[sent : sent + _PIECE])
        sent += _PIECE
