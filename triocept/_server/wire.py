"""A connection's bytes, with as little between them and the kernel as may be.

trio's `SocketStream` asks the kernel for bytes before it waits for them, which for a server is a system call (and an
exception) for nothing, and passes through four layers to send. On plain TCP the socket is used directly here; all else
(TLS) is left to the stream.

Rule: the socket is the stream's, which alone opens and closes it. It is never used when the stream has closed it, for
the kernel may have given its number to another connection by then.
"""

from __future__ import annotations

import socket
from typing import final

import trio

__all__ = ["Wire"]

_MAX_RECEIVE = 128 * 1024
"""Bytes. A long conversation comes in one piece."""


@final
class Wire:
    """What `stream` carries. At most one task receives, and one sends."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._trios = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._sock = socket.socket(fileno=self._trios.fileno()) if self._trios is not None else None

    def release(self) -> None:
        """Let go of the socket, which stays the stream's."""
        if self._sock is not None:
            self._sock.detach()
            self._sock = None

    async def receive(self) -> bytes:
        """Some bytes; none where the client has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        if self._sock is None or self._trios is None:
            return bytes(await self._stream.receive_some(_MAX_RECEIVE))
        while True:
            await trio.lowlevel.wait_readable(self._trios)
            if (data := self.take()) is not None:
                return data

    def take(self) -> bytes | None:
        """What is there now: None is nothing, no bytes are a hang-up.

        Raises:
            trio.BrokenResourceError: the connection has broken.
        """
        assert self._sock is not None, "released"
        try:
            return self._sock.recv(_MAX_RECEIVE)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise trio.BrokenResourceError from exc

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
        if self._sock is None or self._trios is None or self._trios.fileno() < 0:
            return 0
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError from exc
