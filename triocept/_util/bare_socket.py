"""A socket of trio's that is read with nothing between it and the kernel.

trio's own `recv` asks the kernel for bytes before it waits for them, which for a peer that is thinking is a system call
(and an exception) for nothing.

Rule: the socket is trio's, which alone opens and closes it, and its number is asked for at each call and never kept:
once it is closed the kernel gives the number to the next connection, whose bytes are none of ours. A reader may have
been woken by then.
"""

from __future__ import annotations

import os
from typing import final

import trio


@final
class BareSocket:
    """At most one task receives.

    Args:
        trios: plain TCP, connected.
    """

    __slots__ = ("_trios",)

    usable = os.name == "posix"
    """Whether there is such a thing: on Windows a socket is no file."""

    def __init__(self, trios: trio.socket.SocketType) -> None:
        self._trios = trios

    async def receive(self, most: int) -> bytes:
        """Some bytes; none where the peer has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        while True:
            if (number := self._trios.fileno()) < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(number)
            if (data := self.take(most)) is not None:
                return data

    async def wait(self) -> None:
        """Until there is something to receive, or the peer has hung up.

        Raises:
            trio.ClosedResourceError: it was closed here.
        """
        if (number := self._trios.fileno()) < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(number)

    def take(self, most: int) -> bytes | None:
        """What is there now: None is nothing, no bytes are a hang-up.

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
