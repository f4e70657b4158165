"""What every protocol needs of the connection that it is spoken on: its bytes, its limits, and the door that it came
through. Knows no protocol.

Its bytes are received, and sent to a client that may have stopped reading. On plain TCP they go by the bare socket, all
else (TLS) is left to the stream.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, final

import trio

from .._util.bare_socket import BareSocket
from .admission import Admission, Turns

if TYPE_CHECKING:
    from .._rollout.rollout_state import RolloutState

MAX_RECEIVE = 128 * 1024
"""Bytes. A long conversation comes in one piece."""
STRANGERS_PIECE = 16 * 1024
"""Bytes that are read at once of a client that has shown no key: a head and some of its body, and no more before it is
looked at."""
_PIECE = 64 * 1024
"""Bytes that have to be taken within the time: about what a kernel's buffer frees at once."""
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
        self.outbox = Outbox(stream, self.wire.plain, admission.limits.reader_seconds)
        """What it has still to send; whoever has the connection writes to it, and flushes it."""
        self.ahead = bytearray()
        """What was received, and is still to be read."""
        self.queued = 0
        """Bytes of a body that wait for an application to take them."""
        self.idle = True
        """Whether it waits for a request, and nothing is lost by closing it."""
        self.gone = False
        """Whether its client has left, or it was broken off: no further request of it is served."""
        self.keyless = True
        """Whether it has not shown a key of this endpoint yet."""
        self._asked = False
        """True once it has sent a request without a key."""
        self._rollout: RolloutState | None = None
        """Whose key it has shown last."""
        self.ending = False
        """Whether this connection ends with its next response: the server stops, or keeps no connection alive."""
        self._admission = admission

    def date(self) -> str:
        """The value of a `Date` header."""
        return http_date(int(time.time()))

    async def receive(self, held: int) -> bytes:
        """Receive some bytes: of a client that has shown no key fewer, and when it is its turn.

        Args:
            held: bytes of it that are held already.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """
        if not self.keyless:
            return await self.wire.receive(MAX_RECEIVE)
        turns, begins = self._admission.reading, not held and not self._asked
        return await self.wire.receive_of_stranger(STRANGERS_PIECE, turns, held, self.hold, begins)

    async def wait_turn(self) -> None:
        """Wait until it is its turn to be read."""
        await self._admission.reading.begin(begins=True)
        await self._admission.reading.end()

    async def begin_request(self, rollout: RolloutState | None) -> None:
        """Admit the connection if its request shows a key; else let it wait for its turn to be served.

        A checkpoint only where it waits.

        Args:
            rollout: whose key the request shows; None: it shows none of this endpoint.
        """
        if rollout is not None:
            self.admit(rollout)
        elif self.keyless:
            begins, self._asked = not self._asked, True
            await self._admission.wait_to_serve(begins=begins)

    def admit(self, rollout: RolloutState) -> None:
        """The connection has shown the key of this rollout, and is admitted until that ends."""
        if rollout is self._rollout:
            return
        self.leave_rollout()
        self._rollout = rollout
        rollout.on_end.add(self._expire)
        if self.keyless:
            self.keyless = False
            self._admission.admit(self)

    def _expire(self) -> None:
        self.leave_rollout()
        self.keyless, self._asked = True, False
        self._admission.expire(self)

    def leave_rollout(self) -> None:
        """Forget whose key the connection has shown."""
        if self._rollout is not None:
            self._rollout.on_end.discard(self._expire)
            self._rollout = None

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


@final
class Wire:
    """What is received by `stream`. At most one task receives."""

    __slots__ = ("plain", "receive", "socket")

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        plain = BareSocket.usable and isinstance(stream, trio.SocketStream)
        self.plain: trio.socket.SocketType | None = stream.socket if plain else None
        """None: nothing can be received or sent without the stream."""
        self.socket = None if self.plain is None else BareSocket(self.plain)
        self.receive: Callable[[int], Awaitable[bytes]] = (
            partial(_receive, stream) if self.socket is None else self.socket.receive
        )
        """Some bytes, so many at most; none where the client has hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed here.

        Cancellation: nothing is lost.
        """

    async def receive_of_stranger(
        self, most: int, turns: Turns, held: int, hold: Callable[[int], None], begins: bool
    ) -> bytes:
        """As `receive`, of a client that has shown no key: in its turn (where TLS is spoken, it has been read before).

        Args:
            most: bytes.
            turns: of all strangers.
            held: bytes of it that are held already.
            hold: told how many they are now, before anybody else has a turn.
            begins: as of `Turns.begin`.

        Cancellation: nothing is lost.
        """
        if self.socket is None:
            data = await self.receive(most)
            with trio.CancelScope(shield=True):  # for a moment: it is in nobody's hands
                await turns.begin(begins=begins)
                hold(held + len(data))
                await turns.end()
            return data
        while True:
            await self.socket.wait()
            await turns.begin(begins=begins)
            try:
                if (taken := self.socket.take(most)) is not None:
                    hold(held + len(taken))
            finally:
                await turns.end()
            if taken is not None:
                return taken


async def _receive(stream: trio.abc.ReceiveStream, most: int) -> bytes:
    return bytes(await stream.receive_some(most))


@final
class Outbox:
    """Takes whatever is written, and never waits: it sends what the kernel takes, and keeps the rest to be flushed.

    On TLS, where nothing can be sent without waiting, it keeps all.

    Args:
        stream: the connection.
        plain: its socket, where nothing stands between; it is closed by the stream alone, and so its number is asked
            for at each call (see `BareSocket`).
        seconds: in which the client has to take something of what is sent.
    """

    __slots__ = ("_on_its_way", "_plain", "_rest", "_seconds", "_stream")

    def __init__(
        self,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
        plain: trio.socket.SocketType | None,
        seconds: float,
    ) -> None:
        self._stream = stream
        self._plain = plain
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

    def write(self, data: bytes | bytearray) -> bool:
        """Send it, or keep what is to be sent later. Whether all is sent; a connection that has broken is seen by
        `flush`."""
        sent = 0
        if self._plain is not None and not self._on_its_way and not self._rest:
            number = self._plain.fileno()  # below 0: it was closed
            try:
                sent = os.write(number, data) if number >= 0 else 0
            except OSError:  # it takes nothing now, or has broken
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
            data, self._rest = self._rest, bytearray()
            if self.write(data):
                continue
            data, self._rest = self._rest, bytearray()
            self._on_its_way, sent = len(data), 0
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


@lru_cache(maxsize=2)
def http_date(seconds: int) -> str:
    """The value of a `Date` header, so many seconds after 1970."""
    return formatdate(seconds, usegmt=True)
