"""Send and receive frames: the messages between the program that opened a fleet and one worker process.

A frame consists of its length, its kind (1 byte), the number of a call (8 bytes), and a payload. The length is the
number of bytes in the frame after the length itself. It is encoded in 8 bytes, big-endian.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import final

import msgspec
import trio

HEAD = struct.Struct(">QBQ")
LENGTH = struct.Struct(">Q")
CHUNK = 256 * 1024
"""Maximum number of bytes that one read from the socket returns."""


class Kind(IntEnum):
    SETUP = 1
    """To the worker, as its first frame: the `sys.path` of the program that opened the fleet, and the packed function
    that opens the worker's context.
    """
    READY = 2
    """From the worker: its context is open, so it can run calls."""
    FAILED = 3
    """From the worker: the error that occurred when the worker opened its context."""
    CALL = 4
    """To the worker: a job, that is one packed call of a function."""
    CANCEL = 5
    """To the worker: a request to cancel the call whose number the frame contains."""
    ANSWER = 6
    """From the worker: the packed answer of a job; empty if the job was cancelled."""
    PING = 7
    """To the worker: a request to send a `PONG`, by which the worker shows that its event loop is not blocked."""
    PONG = 8
    """From the worker: the reply to a `PING`."""


class Frame(msgspec.Struct, frozen=True):
    kind: Kind
    call: int
    data: bytes


@final
class FrameStream:
    """Sender and receiver of frames over a byte stream. If the stream ends or fails, the other process counts as ended.

    `put` only queues a frame. `write` runs in a task of its own, and sends the queued frames. So if a task that calls
    `put` is cancelled, no frame is sent in part.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._outbox: deque[bytes] = deque()
        self._news = trio.Event()
        self._ending = False
        self._buffer = bytearray()
        self._data_came = trio.Event()

    def put(self, kind: Kind, call: int = 0, data: bytes = b"") -> None:
        head = HEAD.pack(HEAD.size - LENGTH.size + len(data), kind, call)
        self._outbox += (head + data,) if len(data) < CHUNK else (head, data)
        self._news.set()

    def put_eof(self) -> None:
        """Close the sending direction after the queued frames are sent. Frames can still be received."""
        self._ending = True
        self._news.set()

    async def write(self) -> None:
        """Send queued frames until `put_eof` is called, or until the other process has ended."""
        while await self.flush():
            if self._ending:
                await self._stream.send_eof()
                return
            self._news = trio.Event()
            if not self._outbox:
                await self._news.wait()

    async def flush(self) -> bool:
        """Send the queued frames; return False if the other process has ended. Only one task at a time may call it."""
        try:
            while self._outbox:
                await self._stream.send_all(self._outbox.popleft())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the received frames until the other process has ended. Drop an incomplete last frame."""
        while True:
            head = await self._take(LENGTH.size)
            if head is None:
                return
            body = await self._take(LENGTH.unpack(head)[0])
            if body is None:
                return
            kind, call = struct.unpack_from(">BQ", body)
            yield Frame(Kind(kind), call, body[HEAD.size - LENGTH.size :])

    def await_data(self) -> trio.Event:
        """Return an event that is set when further bytes arrive, even if they are only a part of a frame."""
        self._data_came = trio.Event()
        return self._data_came

    async def _take(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            try:
                data = await self._stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._data_came.set()
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def aclose(self) -> None:
        """Close the stream, which also ends each `async for` loop over `frames` in another task."""
        await self._stream.aclose()
