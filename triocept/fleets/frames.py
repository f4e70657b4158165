"""What a driver and its worker process say to each other, over one socket: frames.

A frame is its length (8 bytes, big-endian, of all that follows), its kind (1 byte), the number of its call (8 bytes),
and what it carries.
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
"""Bytes that are read at once."""


class Kind(IntEnum):
    """What a frame is for."""

    SETUP = 1
    """To the worker, first: where it imports from, and what it opens."""
    READY = 2
    """From it: that is open."""
    FAILED = 3
    """From it: that could not be opened; the error."""
    CALL = 4
    """To it: a job."""
    CANCEL = 5
    """To it: that call is to end."""
    ANSWER = 6
    """From it: what became of a job; nothing, if it was cancelled."""
    PING = 7
    """To it: does its loop run?"""
    PONG = 8
    """From it: yes."""


class Frame(msgspec.Struct, frozen=True):
    """One of them."""

    kind: Kind
    call: int
    data: bytes


@final
class FrameStream:
    """Frames over a byte stream. Its ends are all one: whoever was there is gone, whatever the kernel calls that.

    What is put waits for `write`, a task of its own: who is cancelled while others wait leaves no half frame behind.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._outbox: deque[bytes] = deque()
        self._news = trio.Event()
        self._ending = False
        self._buffer = bytearray()
        self._data_came = trio.Event()

    def put(self, kind: Kind, call: int = 0, data: bytes = b"") -> None:
        """Send one frame, soon."""
        head = HEAD.pack(HEAD.size - LENGTH.size + len(data), kind, call)
        self._outbox += (head + data,) if len(data) < CHUNK else (head, data)
        self._news.set()

    def put_eof(self) -> None:
        """Say that nothing more comes, behind what was put; what the other side still says is read on."""
        self._ending = True
        self._news.set()

    async def write(self) -> None:
        """Send what is put, until `put_eof`, or until the other side is gone."""
        while await self.flush():
            if self._ending:
                await self._stream.send_eof()
                return
            self._news = trio.Event()
            if not self._outbox:
                await self._news.wait()

    async def flush(self) -> bool:
        """Send what was put; whether the other side takes it. Only one task at a time."""
        try:
            while self._outbox:
                await self._stream.send_all(self._outbox.popleft())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def frames(self) -> AsyncIterator[Frame]:
        """Those that come, until the other side is gone. Half a frame at the end is none."""
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
        """An event that is set when the next bytes come, whether they end a frame or not."""
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
        """Close it; whoever reads finds that it ended."""
        await self._stream.aclose()
