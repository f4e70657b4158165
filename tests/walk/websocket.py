"""Responses over a websocket: one call on a socket of its own."""

from __future__ import annotations

import json

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from .wire import Broken, dial, hang_up


class ConnectionW:
    """A socket and the one call on it."""

    def __init__(self, port: int) -> None:
        self.stream = dial(port)
        self.over = False
        self.left = False

    def call(self) -> CallW:
        return CallW(self)

    async def close(self) -> None:
        self.over = True
        await trio.aclose_forcefully(self.stream)


class CallW:
    """A `response.create`, and the events that answer it."""

    def __init__(self, connection: ConnectionW) -> None:
        self.connection = connection
        self.excused = ""
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._status: int | None = None
        self._words = b""
        self._text = ""
        self._frames: list[bytes] = []
        self._ended = False
        self._closed = False

    async def send(
        self, path: str, headers: dict[str, str], body: bytes, *, chunked: bool, cut: int, part: bool
    ) -> None:
        stream = self.connection.stream
        if part:  # half a handshake
            await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: te".encode())
            return
        given = [
            (name.encode(), value.encode()) for name, value in headers.items() if name == "authorization"
        ]
        await stream.send_all(self._ws.send(Request(host="test", target=path, extra_headers=given)))
        while self._status is None:
            await self._receive()
        if self._status == 101:
            await stream.send_all(self._ws.send(TextMessage(data=_frame(body))))

    async def head(self) -> int:
        assert self._status is not None
        if self._status != 101:
            while not self._ended:
                await self._receive()
            self._frames = [self._words]
            return self._status
        document = json.loads(await self._first())
        if document["type"] == "error":
            return int(document.get("status") or 500)
        return 200

    async def _first(self) -> bytes:
        while not self._frames:
            await self._receive()
        return self._frames[0]

    async def more(self) -> bytes:
        if self._ended and not self._frames:
            return b""
        data = await self._first()
        del self._frames[0]
        if self._status != 101:
            return data
        kind = json.loads(data)["type"]
        if kind in ("error", "response.failed") and self._words:
            raise Broken(f"it was ended by {kind}")
        self._words = b"it has begun"
        self._ended = kind in ("error", "response.failed", "response.completed", "response.incomplete")
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    async def _receive(self) -> None:
        if self._closed:
            raise Broken("the socket was closed")
        data = await self.connection.stream.receive_some()
        if not data and self._status in (None, 101):
            raise Broken("the socket has ended")
        self._ended = self._ended or not data
        try:
            self._ws.receive_data(data or None)
            for event in self._ws.events():
                await self._handle(event)
        except ProtocolError as exc:
            raise Broken(repr(exc)) from exc

    async def _handle(self, event: object) -> None:
        match event:
            case AcceptConnection():
                self._status = 101
            case RejectConnection(status_code=status):
                self._status = status
            case RejectData(data=data, body_finished=finished):
                self._words += data
                self._ended = self._ended or finished
            case TextMessage(data=text, message_finished=finished):
                self._text += text
                if finished:
                    self._frames.append(self._text.encode())
                    self._text = ""
            case Ping():
                await self.connection.stream.send_all(self._ws.send(event.response()))
            case CloseConnection():
                self._closed = True  # behind what came before it

    def end(self, *, broken: bool = False) -> None:
        self.connection.over = True

    def leave(self, how: str) -> None:
        self.connection.left = self.connection.over = True
        hang_up(self.connection.stream, how)


def _frame(body: bytes) -> str:
    """The request as a frame; a bad one as it is."""
    try:
        return json.dumps({**json.loads(body), "type": "response.create", "store": False})
    except ValueError:
        return body.decode()
