"""What every protocol needs of the connection that it is spoken on: its bytes, its limits, and the door that it came
through. Knows no protocol."""

from __future__ import annotations

import socket
import struct
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import trio

from .admission import Admission
from .wire import STRANGERS_PIECE, Outbox, Wire

__all__ = ["BaseConnection"]


_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""`struct linger`: close at once, and throw away what is still to be sent."""


class BaseConnection(ABC):
    """A connection, as the protocols that are spoken on it see it.

    Args:
        stream: its bytes.
        admission: the door that it came through.
    """

    def __init__(
        self, stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream, admission: Admission
    ) -> None:
        self.stream = stream
        self.limits = admission.limits
        self.wire = Wire(stream)
        self.outbox = Outbox(stream, self.wire, admission.limits.reader_seconds)
        """What it has still to send; whoever has the connection writes to it, and flushes it."""
        self.ahead = bytearray()
        """What was received, and is still to be read."""
        self.queued = 0
        """Bytes of a body that wait for an application to take them."""
        self.idle = True
        """Whether it waits for a request, and nothing is lost by closing it."""
        self.gone = False
        """Whether its client has left, or it was broken off: no further request of it is served."""
        self.times_itself = False
        """Whether another protocol has the whole connection, and ends it after `keyless_seconds` itself."""
        self.keyless = True
        """Whether it has not shown a key of this endpoint yet."""
        self.ending = False
        """Whether the server stops, and this connection ends with its response."""
        self._admission = admission

    def date(self) -> str:
        """The value of a `Date` header."""
        return _date(int(time.time()))

    async def receive_in_turn(self, held: int, most: int = STRANGERS_PIECE) -> bytes:
        """Some bytes of a client that has shown no key, when it is its turn; `held` are held of it already."""
        return await self.wire.receive_of_stranger(most, self._admission.turns, held, self.hold)

    def admit(self) -> None:
        """It has shown a key that opens something here."""
        if self.keyless:
            self.keyless = False
            self._admission.admit(self)

    def hold(self, count: int) -> None:
        """So many bytes of it are held that nobody takes: it matters where it has shown no key."""
        if self.keyless:
            self._admission.hold(self, count + self.queued)

    def begin_head(self) -> None:
        """The beginning of a head is there."""
        self._admission.begin_head(self)

    def end_head(self) -> None:
        """All of it is there."""
        self._admission.end_head(self)

    def note(self, kind: str, text: str, *args: object) -> None:
        """Log what a client has done: one line a minute of each kind, over all connections."""
        self._admission.notices.warn(kind, text, *args)

    def note_slow_reader(self) -> None:
        """Say that it is broken off because its client took nothing."""
        seconds = self.limits.reader_seconds
        self.note("reader", "a client took nothing of its answer for %g s: it is broken off", seconds)

    async def abort(self) -> None:
        """Break the connection off: no further byte, no clean end."""
        self.gone = True
        await trio.aclose_forcefully(self.stream)

    async def close(self, seconds: float) -> None:
        """End it as one does who has said all: what was sent arrives, and then its end. `seconds` are for TLS."""
        self.gone = True
        with trio.move_on_after(seconds):
            with suppress(trio.BrokenResourceError):
                await self.stream.aclose()

    async def reset(self) -> None:
        """Break it off with a RST."""
        self.gone = True
        plain: Any = getattr(self.stream, "transport_stream", self.stream)
        with suppress(OSError):  # it was closed a moment ago
            plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        await trio.aclose_forcefully(self.stream)

    @abstractmethod
    async def wait_ending(self) -> None:
        """Until the server stops.

        Cancellation: immediate.
        """

    @abstractmethod
    def cut(self, *, late: bool = False) -> None:
        """Close it at once; `late`: in the middle of a head, with 408."""


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
