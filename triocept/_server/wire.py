"""A connection's bytes: on plain TCP by the bare socket, all else (TLS) is left to the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

from .._bare_socket import BareSocket

if TYPE_CHECKING:
    from .turns import Turns

__all__ = ["MAX_RECEIVE", "STRANGERS_PIECE", "Wire"]

MAX_RECEIVE = 128 * 1024
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

    async def receive(self, most: int = MAX_RECEIVE) -> bytes:
        """Some bytes, so many at most; none where the client has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        if self._socket is None:
            return bytes(await self._stream.receive_some(most))
        return await self._socket.receive(most)

    async def receive_of_stranger(
        self, most: int, turns: Turns, held: int, hold: Callable[[int], None]
    ) -> bytes:
        """As `receive`, of a client that has shown no key: in its turn (where TLS is spoken, it has been read before).

        Args:
            most: bytes.
            turns: of all strangers.
            held: bytes of it that are held already.
            hold: told how many they are now, before anybody else has a turn.

        Cancellation: nothing is lost.
        """
        if self._socket is None:
            data = await self.receive(most)
            with trio.CancelScope(shield=True):  # for a moment: it is in nobody's hands
                await turns.begin(begins=not held)
                hold(held + len(data))
                await turns.end()
            return data
        while True:
            await self._socket.wait()
            await turns.begin(begins=not held)
            try:
                if (taken := self._socket.take(most)) is not None:
                    hold(held + len(taken))
            finally:
                await turns.end()
            if taken is not None:
                return taken

    def send_now(self, data: bytes) -> int:
        """Send what the socket takes now; how many bytes that was.

        Raises:
            trio.BrokenResourceError: the connection has broken.
        """
        return 0 if self._socket is None else self._socket.send_now(data)
