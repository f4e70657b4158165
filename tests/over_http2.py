"""HTTP/1.1 spoken over HTTP/2: what a test sends as bytes goes out as streams, and what comes back is bytes again.

So the tests that speak HTTP/1.1 over raw sockets hold of HTTP/2, too. Nothing is read ahead of the test: a body that is
not received keeps its window shut.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11
import hpack
import trio
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, SettingsFrame

__all__ = ["OverHTTP2", "in_frames"]

PIECE = 16_384
"""Bytes of a frame."""

DROPPED = {b"connection", b"transfer-encoding", b"host", b"keep-alive", b"upgrade"}


class _Plain(hpack.Encoder):
    """Without Huffman's code, which takes hpack the square of a long path."""

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        return super().encode(headers, huffman=False)


class OverHTTP2:
    """A `trio.SocketStream`, as far as the tests use one.

    Args:
        tcp: connected to the endpoint.
    """

    def __init__(self, tcp: trio.SocketStream) -> None:
        self.tcp = tcp
        self.socket = tcp.socket
        self.reset: int | None = None
        """The error code of the stream that was reset last."""
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._h2.encoder = _Plain()
        self._h1 = h11.Connection(h11.SERVER, max_incomplete_event_size=10_000_000)
        self._stream = 0
        self._back = bytearray()
        self._unread: deque[tuple[int, int]] = deque()
        self._ended = False
        self._broken = False
        self._news = trio.Condition()
        self._sending = trio.Lock()
        self._h2.initiate_connection()

    async def pump(self) -> None:
        """Receive, for as long as the connection lives; for a task of its own."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data := await self.tcp.receive_some():
                for event in self._h2.receive_data(data):
                    await self._handle(event)
                await self._flush()
                await self._notify()
        self._ended = True
        await self._notify()

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _wait(self) -> None:
        async with self._news:
            await self._news.wait()

    async def _flush(self) -> None:
        async with self._sending:
            if data := self._h2.data_to_send():
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.tcp.send_all(data)

    async def _handle(self, event: Any) -> None:
        match event:
            case h2.events.ResponseReceived(headers=headers):
                status = int(dict(headers)[b":status"])
                plain = [(name, value) for name, value in headers if not name.startswith(b":")]
                self._tell(h11.Response(status_code=status, headers=plain))
            case h2.events.InformationalResponseReceived(headers=headers):
                status = int(dict(headers)[b":status"])
                self._tell(h11.InformationalResponse(status_code=status, headers=[]))
            case h2.events.DataReceived():
                self._tell(h11.Data(data=event.data))
                self._unread.append((event.flow_controlled_length, event.stream_id))
            case h2.events.StreamEnded():
                self._tell(h11.EndOfMessage())
                await self._next_cycle()
            case h2.events.StreamReset(error_code=code):
                self.reset = int(code)
                if code and self._h1.our_state is not h11.DONE:
                    self._ended = self._broken = True
            case h2.events.ConnectionTerminated():
                self._ended = True

    def _tell(self, event: Any) -> None:
        self._back += self._h1.send(event) or b""

    async def _next_cycle(self) -> None:
        if self._h1.our_state is h11.DONE and self._h1.their_state is h11.DONE:
            self._h1.start_next_cycle()
            await self._forward()
        elif self._h1.our_state is h11.MUST_CLOSE:
            self._ended = True

    async def send_all(self, data: bytes) -> None:
        self._h1.receive_data(bytes(data))
        await self._forward()

    async def _forward(self) -> None:
        """Send on what h11 makes of what the test has sent."""
        while (event := self._h1.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            match event:
                case h11.Request():
                    self._begin(event)
                case h11.Data():
                    await self._send_body(bytes(event.data))
                case h11.EndOfMessage():
                    with suppress(h2.exceptions.ProtocolError):
                        self._h2.end_stream(self._stream)
                    await self._flush()
                    if self._h1.our_state is h11.DONE:
                        await self._next_cycle()
                        return
                case _:
                    break
        await self._flush()

    def _begin(self, request: h11.Request) -> None:
        self._stream = self._h2.get_next_available_stream_id()
        host = dict(request.headers)[b"host"]
        pseudo = [
            (b":method", request.method),
            (b":scheme", b"http"),
            (b":authority", host),
            (b":path", request.target),
        ]
        plain = [(name, value) for name, value in request.headers if name not in DROPPED]
        self._h2.send_headers(self._stream, [*pseudo, *plain])

    async def _send_body(self, data: bytes) -> None:
        while data and not self._broken:
            try:
                room = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)
                if room:
                    self._h2.send_data(self._stream, data[:room])
            except h2.exceptions.ProtocolError:  # it was reset
                return
            data = data[room:]
            await self._flush()
            if not room:
                await self._wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._back and not self._ended:
            await self._wait()
        data, self._back = bytes(self._back), bytearray()
        while self._unread and not self._ended:
            self._h2.acknowledge_received_data(*self._unread.popleft())
        await self._flush()
        if not data and self._broken:
            raise trio.BrokenResourceError("the stream was reset")
        return data

    def __aiter__(self) -> OverHTTP2:
        return self

    async def __anext__(self) -> bytes:
        if data := await self.receive_some():
            return data
        raise StopAsyncIteration

    async def cancel(self) -> None:
        """RST_STREAM."""
        self._h2.reset_stream(self._stream, 8)
        await self._flush()

    async def send_eof(self) -> None:
        async with self._sending:
            await self.tcp.send_eof()

    async def aclose(self) -> None:
        await self.tcp.aclose()


def in_frames(data: bytes) -> bytes:
    """A request, or the beginning of one, in frames; or many that are the same, without a body."""
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame().serialize()
    count = min(20, max(1, data.count(b" /health HTTP/1.1\r\nHost: a\r\n\r\n")))
    head, whole, body = data.partition(b"\r\n\r\n")
    if count > 1:
        body = b""
    lines = head.split(b"\r\n")
    method, path, *_ = [*lines[0].split(b" "), b"GET", b"/"]
    pairs = [line.lower().split(b": ") for line in lines[2:] if line]
    pseudo = [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"a")]
    for number in range(1, 2 * count, 2) if data else ():
        block = hpack.Encoder().encode([*pseudo, *map(tuple, pairs)], huffman=False)
        frames: list[Any] = [HeadersFrame(number, data=block[:PIECE])]
        frames += [
            ContinuationFrame(number, data=block[at : at + PIECE]) for at in range(PIECE, len(block), PIECE)
        ]
        if whole:
            frames[-1].flags.add("END_HEADERS")
        frames += [DataFrame(number, data=body[at : at + PIECE]) for at in range(0, len(body), PIECE)]
        sent += b"".join(frame.serialize() for frame in frames)
    return sent
