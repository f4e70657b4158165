"""Direct reads from the kernel for a trio socket.

trio's own `recv` tries to read before it waits. If the peer has sent nothing yet, this wastes a system call (and an
exception).

Rule: only trio opens and closes the socket. The socket's descriptor is looked up at each call and never kept. Once the
socket is closed, the kernel gives the same number to the next connection, whose bytes must not be read here. A reader
may be woken before the socket is closed, and run afterwards.
"""

from __future__ import annotations

import os
from typing import final

import trio


@final
class BareSocket:
    """A connected socket from which at most one task receives.

    Args:
        trios: trio's socket, connected over plain TCP.
    """

    __slots__ = ("_trios",)

    usable = os.name == "posix"
    """True if the platform supports it: on Windows a socket is not a file."""

    def __init__(self, trios: trio.socket.SocketType) -> None:
        self._trios = trios

    async def receive(self, most: int) -> bytes:
        """Return some bytes; no bytes if the peer has disconnected.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: no bytes are lost.
        """
        while True:
            if (number := self._trios.fileno()) < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(number)
            if (data := self.take(most)) is not None:
                return data

    async def wait(self) -> None:
        """Wait until there are bytes to receive, or the peer has disconnected.

        Raises:
            trio.ClosedResourceError: the socket was closed here.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(number)

    def take(self, most: int) -> bytes | None:
        """Return the bytes that are available now: None if there are none yet, empty if the peer has disconnected.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `receive`.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        try:
            return os.read(number, most)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise trio.BrokenResourceError from exc
