"""The base class of a connection: received bytes, bytes to send, limits, admission. The class implements no protocol.

A client may stop reading its answer at any time. On plain TCP, bytes are sent and received with the bare socket; on
TLS, with trio's stream.
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
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

import trio

from .._util.bare_socket import BareSocket
from .admission import Admission, Turns

if TYPE_CHECKING:
    from .admission import KeyHolder

MAX_RECEIVE = 1024 * 1024
"""Maximum bytes of one read. The number is large, so that even a long conversation arrives in one piece."""
KEYLESS_PIECE = 16 * 1024
"""Maximum bytes of one read from a client without a key: enough for a head and the beginning of a body."""
_SMALL = 1024
"""A piece with fewer bytes counts as small. The first TLS records of clients in Go have 1,200 bytes."""
_PIECE = 64 * 1024
"""Maximum bytes of one send, which the client must read within the time limit. The kernel frees about as many bytes of
its buffer in one step."""
_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Value of `struct linger` with which a closed socket discards the bytes that are still to be sent."""


class BaseConnection(ABC):
    """Base class of a connection, with the methods that all protocol implementations use."""

    def __init__(
        self, stream: trio.SSLStream[CountedReads] | trio.SocketStream, admission: Admission
    ) -> None:
        self.stream = stream
        self.limits = admission.limits
        self.wire = Wire(stream)
        self.outbox = Outbox(stream, self.wire.plain, admission.limits.reader_seconds)
        """The bytes still to be sent. Only the task that serves the connection writes to the outbox and flushes it."""
        self.ahead = bytearray()
        """Received bytes that the protocol implementation (`http11`, hypercorn, a websocket) has not read yet."""
        self.queued = 0
        """Bytes of a body that the application has not read yet."""
        self.idle = True
        """True if the connection waits for a request, so that no request is lost if the connection is closed."""
        self.gone = False
        """True if the client has disconnected, or the connection was broken off. No further request of the connection
        is served."""
        self.keyless = True
        """True until the connection has sent a key of this endpoint."""
        self.had_key = False
        self._has_requested = False
        """True once the connection has sent a request without a key."""
        self._rollout: KeyHolder | None = None
        """The owner (rollout or view) of the key that the connection has sent last; None before the first key."""
        self.pieces = self.served = self.in_turns = 0
        self._uncounted = False
        """True if the piece that was read last is not counted in `pieces` yet."""
        self.arrived_at = trio.current_time()
        self.ending = False
        """True if the connection ends with its next response, because the server stops or keeps no connection alive."""
        self._admission = admission

    def date(self) -> str:
        return http_date(int(time.time()))

    def receive(self, held: int) -> Awaitable[bytes]:
        """Receive bytes from the client. Return empty bytes if the client has disconnected.

        If the client has sent no key, the method first waits for the connection's turn, and then reads fewer bytes.
        `held` is the number of received bytes that are not processed yet.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed by the server.

        Cancellation: no received bytes are lost.
        """
        if not self.keyless:
            return self.wire.receive(MAX_RECEIVE)
        turns, begins = self._admission.reading, not held and not self._has_requested
        if not begins:
            turns.note_keyless()
        return self.wire.receive_keyless(KEYLESS_PIECE, turns, held, self, begins)

    def note_piece(self, size: int) -> None:
        """Record that one read returned `size` bytes before the client had sent a key of the endpoint.

        A small piece is counted in `pieces` immediately. A large piece is counted when the next request without a key
        is served.
        """
        self.pieces += size < _SMALL
        self._uncounted = size >= _SMALL

    async def wait_turn(self) -> None:
        self.pieces += 1  # the first message of a TLS handshake
        await self._admission.handshakes.begin(self, begins=True)
        await self._admission.handshakes.end(self)

    async def begin_request(self, rollout: KeyHolder | None) -> None:
        """Authenticate the connection if the request has a key. Otherwise wait until the request may be answered.

        `rollout` is the owner of the key in the request, or None. The method is a checkpoint only if it waits.
        """
        if rollout is not None:
            self.admit(rollout)
        elif self.keyless:
            begins, self._has_requested = not self._has_requested, True
            self._admission.reading.note_keyless()
            self.served += 1
            self.pieces += self._uncounted
            self._uncounted = False
            await self._admission.wait_to_serve(self, begins=begins)

    def admit(self, rollout: KeyHolder) -> None:
        """Mark the connection as authenticated until `rollout` ends, because it has sent a key of `rollout`."""
        if rollout is self._rollout:
            return
        self.leave_rollout()
        self._rollout = rollout
        rollout.on_end.add(self._expire)
        if self.keyless:
            self.keyless, self.had_key = False, True
            self._admission.admit(self)
            self._admission.reading.note_key()

    def _expire(self) -> None:
        self.leave_rollout()
        self.keyless, self._has_requested = True, False
        self._admission.expire(self)

    def leave_rollout(self) -> None:
        if self._rollout is not None:
            self._rollout.on_end.discard(self._expire)
            self._rollout = None

    def hold(self, count: int) -> None:
        if self.keyless:
            self._admission.hold(self, count + self.queued)

    def begin_head(self) -> None:
        self._admission.begin_head(self)

    def end_head(self) -> None:
        self._admission.end_head(self)

    @property
    def progress(self) -> object:
        stream = self.stream
        reads = stream.transport_stream.reads if isinstance(stream, trio.SSLStream) else 0
        return reads, self.pieces, self.served, self.arrived_at, len(self.ahead)

    def is_readable(self) -> bool:
        return self._socket.fileno() >= 0 and self._socket.is_readable()

    @property
    def _socket(self) -> trio.socket.SocketType:
        stream: Any = self.stream
        sock: trio.socket.SocketType = getattr(stream, "transport_stream", stream).socket
        return sock

    def note(self, kind: str, text: str, *args: object) -> None:
        self._admission.notices.warn(kind, text, *args)

    def note_slow_reader(self) -> None:
        seconds = self.limits.reader_seconds
        text = "a connection is closed, because its client has read no byte of its answer for %g s"
        self.note("reader", text, seconds)

    async def abort(self) -> None:
        self.gone = True
        await trio.aclose_forcefully(self.stream)

    async def close(self, seconds: float) -> None:
        """Close the connection after all written bytes were sent. `seconds` limits the closing handshake of TLS."""
        self.gone = True
        with trio.move_on_after(seconds):
            with suppress(trio.BrokenResourceError):
                await self.stream.aclose()

    async def reset(self) -> None:
        self.gone = True
        with suppress(OSError):  # the socket was closed a moment ago
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        await trio.aclose_forcefully(self.stream)

    @abstractmethod
    def cut(self, *, late: bool = False) -> None: ...


@final
class CountedReads(trio.abc.Stream):
    """The plain stream under a TLS connection.

    The class counts the reads of the socket. The count shows progress even if a read of the socket gives no bytes of
    the TLS stream.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.reads = 0
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.socket.fileno() >= 0:
            await trio.lowlevel.wait_readable(self.socket)
        self.reads += 1  # before the read, which may be followed by a schedule point
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@final
class Wire:
    """Receives the bytes of a connection. Only one task may receive at a time."""

    __slots__ = ("plain", "receive", "socket")

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[CountedReads]) -> None:
        plain = BareSocket.usable and isinstance(stream, trio.SocketStream)
        self.plain: trio.socket.SocketType | None = stream.socket if plain else None
        """The bare socket. None if bytes can be received and sent only through the stream."""
        self.socket = None if self.plain is None else BareSocket(self.plain)

        async def receive(most: int) -> bytes:
            return bytes(await stream.receive_some(most))

        bare = self.socket
        self.receive: Callable[[int], Awaitable[bytes]] = receive if bare is None else bare.receive
        """Function that receives at most the given number of bytes. The function returns empty bytes if the client has
        hung up.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed by the server.

        Cancellation: nothing is lost."""

    async def receive_keyless(
        self, most: int, turns: Turns, held: int, connection: BaseConnection, begins: bool
    ) -> bytes:
        """Wait for the connection's turn, and receive bytes from a client that has sent no valid key.

        With TLS, the bytes are received before the wait. Then `connection.hold` is called with the new number of
        received, unprocessed bytes, before another connection is read. If a key is found in earlier bytes before the
        next bytes arrive, the connection needs no turn.

        Cancellation: no received bytes are lost.
        """
        if self.socket is None:
            data = await self.receive(most)
            if not connection.keyless:
                return data
            # The shielded code cannot block for long. Without the shield, a cancellation would lose the data.
            with trio.CancelScope(shield=True):
                await turns.begin(connection, begins=begins)
                connection.note_piece(len(data))
                connection.hold(held + len(data))
                await turns.end(connection)
            return data
        while True:
            await self.socket.wait()
            if not connection.keyless:
                return await self.receive(MAX_RECEIVE)
            await turns.begin(connection, begins=begins)
            try:
                if (taken := self.socket.take(most)) is not None:
                    connection.note_piece(len(taken))
                    connection.hold(held + len(taken))
            finally:
                await turns.end(connection)
            if taken is not None:
                return taken


@final
class Outbox:
    """The send buffer of a connection.

    `write` never blocks, and sends the bytes that the kernel accepts. `flush` sends the remaining bytes.

    On TLS, no byte can be sent without waiting, so `write` keeps all bytes.

    Args:
        stream: the connection.
        plain: the stream's socket, if the stream is plain TCP. Only the stream closes the socket, so the socket's file
            descriptor is looked up at each call (see `BareSocket`).
        seconds: maximum seconds without progress: within this time, the client must read at least one byte.
    """

    __slots__ = ("_on_its_way", "_plain", "_rest", "_seconds", "_stream")

    def __init__(
        self,
        stream: trio.SocketStream | trio.SSLStream[CountedReads],
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
        return self._on_its_way + len(self._rest)

    @property
    def full(self) -> bool:
        """True if some written bytes are not sent yet."""
        return bool(self._on_its_way or self._rest)

    def write(self, data: bytes | bytearray) -> bool:
        """Send the part of `data` that the kernel accepts, and keep the remaining part.

        Return True if all data is sent. If the connection has broken, this method does not raise; the next `flush`
        does.
        """
        sent = 0
        if self._plain is not None and not self._on_its_way and not self._rest:
            number = self._plain.fileno()  # negative if the socket was closed
            try:
                sent = os.write(number, data) if number >= 0 else 0
            except OSError:  # the socket accepts no bytes now, or the connection has broken
                sent = 0
            if sent == len(data):
                return True
        self._rest += memoryview(data)[sent:]
        return False

    def keep(self, data: bytes) -> None:
        """Keep `data` without sending it. The next call of `flush` sends it in one piece with the other kept bytes."""
        self._rest += data

    async def flush(self) -> None:
        """Send all kept bytes.

        First the kernel takes as many bytes as it accepts. The other bytes are sent piece by piece, each piece with a
        time limit. Only one task may call `flush` at a time. `flush` is a checkpoint only if it must wait.

        Raises:
            trio.TooSlowError: the client has read no bytes within the time limit.
            trio.BrokenResourceError, trio.ClosedResourceError: the connection has broken, or was closed by the server.

        Cancellation: it is unknown which part of the bytes was sent.
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
    """Acquire a lock. Unlike `lock.acquire`, this function has no checkpoint if the lock is free."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


@lru_cache(maxsize=2)
def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
