"""HTTP/2 as a proxy or a client speaks it: calls share a connection, and a window is as open as its reader reads."""

from __future__ import annotations

from contextlib import suppress

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from .wire import Broken, dial, hang_up, turns

__all__ = ["Connection2"]

ALL = 2**30
PATIENCE = 500
"""Pieces of an answer after which a reader opens its window: megabytes through one of 16 bytes would take minutes."""


class Connection2:
    """A connection; `pump` is for a task of its own.

    Args:
        port: the endpoint's.
        window: bytes of one answer that may come before they are read.
    """

    def __init__(self, port: int, window: int) -> None:
        self.stream = dial(port)
        self.over = False
        self.left = False
        self.calls: dict[int, Call2] = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(ALL)
        self._sending = trio.Lock()

    def call(self) -> Call2:
        return Call2(self)

    async def pump(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError):
            await self.flush()
            while data := await self.stream.receive_some():
                for event in self.h2.receive_data(data):
                    self._handle(event)
                await self.flush()
        self.over = True
        for call in self.calls.values():
            call.end(broken=True)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=int(number), headers=list(headers)):
                self.calls[number].status = int(dict(headers)[b":status"])
                self.calls[number].tell()
            case h2.events.DataReceived(stream_id=int(number), data=data, flow_controlled_length=int(length)):
                self.calls[number].pieces.append((data, length))
                self.calls[number].tell()
            case h2.events.StreamEnded(stream_id=int(number)):
                self.calls[number].ended = True
                self.calls[number].tell()
            case h2.events.StreamReset(stream_id=int(number), error_code=code):
                if code != h2.errors.ErrorCodes.NO_ERROR or not self.calls[number].ended:
                    self.calls[number].end(broken=True)
            case h2.events.ConnectionTerminated():
                self.over = True

    async def flush(self) -> None:
        async with self._sending:
            if data := self.h2.data_to_send():
                await self.stream.send_all(data)

    async def close(self) -> None:
        self.over = True
        await trio.aclose_forcefully(self.stream)


class Call2:
    """One stream."""

    def __init__(self, connection: Connection2) -> None:
        self.connection = connection
        self.excused = ""
        self.status: int | None = None
        self.pieces: list[tuple[bytes, int]] = []
        self.ended = False
        self._broken = False
        self._news = trio.Event()
        self._number = 0
        self._read = 0

    def tell(self) -> None:
        self._news.set()

    def end(self, *, broken: bool = False) -> None:
        self._broken = self._broken or (broken and not self.ended)
        self.tell()

    async def send(
        self, path: str, headers: dict[str, str], body: bytes, *, chunked: bool, cut: int, part: bool
    ) -> None:
        connection = self.connection
        if connection.over:
            self.excused = "its connection was over"
            raise Broken(self.excused)
        try:
            self._number = connection.h2.get_next_available_stream_id()
            connection.calls[self._number] = self
            pseudo = {":method": "POST", ":scheme": "http", ":authority": "test", ":path": path}
            connection.h2.send_headers(self._number, [*pseudo.items(), *headers.items()])
            middle = len(body) // 2
            connection.h2.send_data(self._number, body[:middle])
            if cut or part:
                await connection.flush()
                await turns(cut)
            if not part:
                connection.h2.send_data(self._number, body[middle:], end_stream=True)
            await connection.flush()
        except h2.exceptions.ProtocolError as exc:
            self.excused = "its connection has ended, or is about to"
            raise Broken(str(exc)) from exc

    async def head(self) -> int:
        while self.status is None:
            await self._wait()
        return self.status

    async def more(self) -> bytes:
        while not self.pieces:
            if self.ended:
                return b""
            await self._wait()
        data, length = self.pieces.pop(0)
        with suppress(h2.exceptions.ProtocolError, KeyError):
            self.connection.h2.acknowledge_received_data(length, self._number)
            self._read += 1
            if self._read == PATIENCE:
                self.connection.h2.increment_flow_control_window(ALL // 2, self._number)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.connection.flush()
        return data

    async def _wait(self) -> None:
        if self._broken and not self.pieces:
            raise Broken("the stream was reset, or its connection has ended")
        self._news = trio.Event()
        await self._news.wait()

    async def reset(self) -> None:
        """RST_STREAM."""
        with suppress(h2.exceptions.ProtocolError):
            self.connection.h2.reset_stream(self._number, h2.errors.ErrorCodes.CANCEL)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.connection.flush()

    def leave(self, how: str) -> None:
        """Hang up the whole connection."""
        self.connection.left = self.connection.over = True
        hang_up(self.connection.stream, how)
