"""A socket of trio's, with nothing between it and the kernel.

trio's own `recv` asks the kernel for bytes before it waits for them, which for a peer that is thinking is a system call
(and an exception) for nothing, and `SocketStream` passes through four layers to send.

Rule: the socket is trio's, which alone opens and closes it. It is never used when that has closed it, for the kernel
may have given its number to another connection by then.
"""

from __future__ import annotations

import socket
from typing import final

import trio

__all__ = ["BareSocket"]


@final
class BareSocket:
    """At most one task receives, and one sends.

    Args:
        trios: plain TCP, connected.
    """

    def __init__(self, trios: trio.socket.SocketType) -> None:
        self._trios = trios
        self._sock = socket.socket(fileno=trios.fileno())

    def release(self) -> None:
        """Let go of the socket, which stays trio's."""
        self._sock.detach()

    async def receive(self, most: int) -> bytes:
        """Some bytes; none where the peer has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        while True:
            await trio.lowlevel.wait_readable(self._trios)
            if (data := self.take(most)) is not None:
                return data

    def take(self, most: int) -> bytes | None:
        """What is there now: None is nothing, no bytes are a hang-up.

        Raises:
            trio.BrokenResourceError: the connection has broken.
        """
        try:
            return self._sock.recv(most)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise trio.BrokenResourceError from exc

    def send_now(self, data: bytes) -> int:
        """Send what the socket takes now; how many bytes that was: 0 where trio has closed it.

        Raises:
            trio.BrokenResourceError: the connection has broken.
        """
        if self._trios.fileno() < 0:
            return 0
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError from exc
