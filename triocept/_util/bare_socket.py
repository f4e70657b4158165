"""A trio socket that is read directly from the kernel.

trio's own `recv` tries to read before it waits. For a peer that has not sent yet, that is a wasted system call (and
an exception).

Rule: trio owns the socket, and alone opens and closes it. Its descriptor is fetched at each call and never kept. Once
the socket is closed the kernel gives the number to the next connection, whose bytes belong elsewhere. A reader may
already have been woken by then.
"""

from __future__ import annotations

import os
from typing import final

import trio


@final
class BareSocket:
    """A connected socket with at most one receiving task.

    Args:
        trios: plain TCP, connected.
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
        """Wait until there is something to receive, or the peer has disconnected.

        Raises:
            trio.ClosedResourceError: the socket was closed here.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(number)

    def take(self, most: int) -> bytes | None:
        """Return the bytes that are available now. None means no bytes yet; empty if the peer has disconnected.

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
