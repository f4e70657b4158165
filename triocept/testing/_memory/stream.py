"""A connection in memory without a buffer: `send_all` waits until the peer has received the bytes."""

from __future__ import annotations

from socket import AF_UNSPEC
from typing import Any, final

import trio
from trio.testing import lockstep_stream_pair


@final
class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory. The event `reset` is set when either end resets the connection.

    The class has the methods that the server uses, both of a trio stream and of the stream's `socket`. The attribute
    `socket` is the object itself.
    """

    family = AF_UNSPEC

    def __init__(self, stream: trio.StapledStream[Any, Any], reset: trio.Event) -> None:
        self._stream = stream
        self._reset = reset

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = await self._stream.receive_some(max_bytes)
        if not data and self._reset.is_set():
            raise trio.BrokenResourceError("the peer has reset the connection")
        return data

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close both directions. The peer then receives the end of the data, and can no longer send."""
        self._stream.send_stream.close()
        self._stream.receive_stream.close()

    @property
    def socket(self) -> MemoryStream:
        return self

    def fileno(self) -> int:
        """Return -1, which means that the stream has no file descriptor.

        (`send_all` waits for the peer, so no bytes are buffered.)
        """
        return -1

    def setsockopt(self, *option: object) -> None:
        """Mark the connection as reset.

        The server sets only one option, `SO_LINGER`. With this option, closing the connection resets it.
        """
        self._reset.set()

    def getpeername(self) -> None:
        """Return None, because an end of a connection in memory has no address."""

    getsockname = getpeername


def memory_stream_pair() -> tuple[MemoryStream, MemoryStream]:
    reset = trio.Event()
    one, other = lockstep_stream_pair()
    return MemoryStream(one, reset), MemoryStream(other, reset)
