"""A connection's bytes: on plain TCP by the bare socket, all else (TLS) is left to the stream."""

from __future__ import annotations

from typing import final

import trio

from .._bare_socket import BareSocket

__all__ = ["STRANGERS_PIECE", "Wire"]

_MAX_RECEIVE = 128 * 1024
"""Bytes. A long conversation comes in one piece."""
STRANGERS_PIECE = 16 * 1024
"""Bytes that are read at once of a client that has shown no key: a head and some of its body, and no more before it is
looked at."""


@final
class Wire:
    """What `stream` carries. At most one task receives, and one sends."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        plain = BareSocket.usable and isinstance(stream, trio.SocketStream)
        self._socket = BareSocket(stream.socket) if plain else None

    async def receive(self, most: int = _MAX_RECEIVE) -> bytes:
        """Some bytes, so many at most; none where the client has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        if self._socket is None:
            return bytes(await self._stream.receive_some(most))
        return await self._socket.receive(most)

    async def send(self, data: bytes) -> None:
        """Send all of it. A checkpoint only where it has to wait.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `receive`.

        Cancellation: who knows how much was sent.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self.send_now(data)
        if sent < len(data):
            await self._stream.send_all(memoryview(data)[sent:])

    def send_now(self, data: bytes) -> int:
        """Send what the socket takes now; how many bytes that was.

        Raises:
            trio.BrokenResourceError: the connection has broken.
        """
        return 0 if self._socket is None else self._socket.send_now(data)
