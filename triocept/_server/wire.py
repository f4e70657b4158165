"""A connection's bytes: received, and sent to a client that may have stopped reading.

On plain TCP they go by the bare socket, all else (TLS) is left to the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from .._bare_socket import BareSocket
from .admission import Turns

__all__ = ["MAX_RECEIVE", "STRANGERS_PIECE", "Wire", "Outbox", "acquire"]


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


_PIECE = 64 * 1024
"""Bytes that have to be taken within the time: about what a kernel's buffer frees at once."""


@final
class Outbox:
    """Takes whatever is written, and never waits: it sends what the kernel takes, and keeps the rest to be flushed.

    On TLS, where nothing can be sent without waiting, it keeps all.

    Args:
        stream: the connection.
        wire: its bytes.
        seconds: in which the client has to take something of what is sent.
    """

    def __init__(
        self,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
        wire: Wire,
        seconds: float,
    ) -> None:
        self._stream = stream
        self._wire = wire
        self._seconds = seconds
        self._rest = bytearray()
        self._on_its_way = 0

    @property
    def size(self) -> int:
        """Bytes that are still to be sent."""
        return self._on_its_way + len(self._rest)

    @property
    def full(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._on_its_way or self._rest)

    def write(self, data: bytes) -> bool:
        """Send it, or keep what is to be sent later. Whether all is sent; a connection that has broken is seen by
        `flush`."""
        sent = 0
        if not self._on_its_way and not self._rest:
            try:
                sent = self._wire.send_now(data)
            except trio.BrokenResourceError:
                sent = 0
            if sent == len(data):
                return True
        self._rest += memoryview(data)[sent:]
        return False

    def keep(self, data: bytes) -> None:
        """Leave it to `flush`, which sends in one piece what comes in many."""
        self._rest += data

    async def flush(self) -> None:
        """Send what was kept: what the socket takes at once, the rest in pieces, each of which has so many seconds.

        One task at a time. A checkpoint only where it has to wait.

        Raises:
            trio.TooSlowError: the client has taken no more for so long.
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: who knows how much was sent.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._rest:
            data, self._rest = bytes(self._rest), bytearray()
            self._on_its_way = len(data)
            sent = self._wire.send_now(data)
            while sent < len(data):
                with trio.fail_after(self._seconds):
                    await self._stream.send_all(memoryview(data)[sent : sent + _PIECE])
                sent += _PIECE
            self._on_its_way = 0


async def acquire(lock: trio.Lock) -> None:
    """Take a lock; where it is free, without the checkpoint that `lock.acquire` makes of it."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()
