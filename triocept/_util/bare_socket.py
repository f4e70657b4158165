"""Read from a trio socket by direct calls to the kernel.

trio's own `recv` tries to read before it waits. If no bytes have arrived yet, this attempt costs a system call and an
exception.

Rule: only trio opens and closes the socket. Each call looks up the socket's file descriptor again: no descriptor is
stored. After the socket was closed, the kernel gives the same descriptor to the next connection, and a stored
descriptor would read the bytes of that connection. (A reader that waits may be scheduled just before the socket is
closed, and run after that.)
"""

from __future__ import annotations

import os
from typing import final

import trio


@final
class BareSocket:
    """A reader of a connected trio socket. At most one task may receive at a time.

    Args:
        trios: trio's socket, connected over plain TCP.
    """

    __slots__ = ("_trios",)

    usable = os.name == "posix"
    """True if `os.read` can read a socket on this platform (everywhere except on Windows)."""

    def __init__(self, trios: trio.socket.SocketType) -> None:
        self._trios = trios

    async def receive(self, most: int) -> bytes:
        """Wait for bytes, and return at most `most` bytes; `b""` if the peer has disconnected.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or this program has closed
                it.

        Cancellation: no bytes are lost.
        """
        while True:
            if (number := self._trios.fileno()) < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(number)
            if (data := self.take(most)) is not None:
                return data

    async def wait(self) -> None:
        """Wait until bytes have arrived, or the peer has disconnected.

        Raises:
            trio.ClosedResourceError: this program has closed the socket.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(number)

    def take(self, most: int) -> bytes | None:
        """Return the bytes that have arrived; None if no byte has arrived yet, `b""` if the peer has disconnected.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as for `receive`.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        try:
            return os.read(number, most)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise trio.BrokenResourceError from exc
