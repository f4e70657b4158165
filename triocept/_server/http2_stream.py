"""One request of HTTP/2 and its response, as ASGI has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, final
from urllib.parse import unquote

import h2.exceptions
import msgspec
import trio

from .._rollout.answer import Condition
from .._trace.raw import RawResponse
from .base_connection import BaseConnection
from .http2_frames import Frames
from .intake import text_headers
from .transport import STATE_KEY, Head

__all__ = ["Malformed", "RequestHead", "Stream", "read_head"]

Message: TypeAlias = dict[str, Any]

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_PATH = re.compile(rb"/[!-~]*|\*")
_OF_A_CONNECTION = frozenset(
    {b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"}
)
"""Headers that HTTP/2 has no place for (RFC 9113, 8.2.2)."""
NO_ERROR, INTERNAL_ERROR, CANCEL = 0, 2, 8
"""Error codes (RFC 9113, 7)."""


class Malformed(Exception):
    """The head of a request is none, or is of a kind that is not served here: the message says why."""


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a request."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    """With a `host`, as in HTTP/1.1, and without the pseudo-headers."""

    @property
    def text(self) -> Head:
        path, _, query = self.target.decode().partition("?")
        return Head(self.method, unquote(path), query, text_headers(self.headers))


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """A request's head; h2 has seen to it that it has the pseudo-headers, each once, and nothing of a connection.

    Raises:
        Malformed: it is not ASCII, or a CONNECT.
    """
    pseudo: dict[bytes, bytes] = {}
    plain: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)
        elif name != b"host" or b":authority" not in pseudo:
            plain.append((bytes(name), bytes(value)))
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if method == b"CONNECT":
        raise Malformed("CONNECT is not served here")
    if not _METHOD.fullmatch(method) or not _PATH.fullmatch(target):
        raise Malformed("its method or its path is none")
    if b":authority" in pseudo:
        plain.insert(0, (b"host", pseudo[b":authority"]))
    if cookies:  # they may come in pieces: RFC 9113, 8.2.3
        plain.append((b"cookie", b"; ".join(cookies)))
    return RequestHead(method.decode().upper(), bytes(target), plain)


class Session(Protocol):
    """The connection of a stream."""

    connection: BaseConnection
    h2: Frames

    def flush(self) -> None:
        """Have sent what h2 has written."""

    def room(self, number: int) -> int:
        """Bytes that a stream may send now; below 0 not even its end."""

    async def wait_room(self, stream: Stream) -> bool:
        """Wait until there may be more room for a stream. False: there was none for too long."""

    def await_sent(self, stream: Stream) -> None:
        """Tell a stream when all that was written so far is sent."""

    def let_next_on(self) -> None:
        """Let a stream go on that waits for what all share, if there is some of that."""

    def acknowledge(self, length: int | None, number: int) -> None:
        """So many bytes of a body need no room any more."""

    def give_up(self, number: int) -> None:
        """End a stream whose client takes nothing."""

    def reset(self, number: int, code: int) -> None:
        """End a stream."""


@final
class Stream:
    """One stream. Its own task calls `receive` and `send`, the connection's reader everything else."""

    def __init__(self, http2: Session, number: int, head: RequestHead) -> None:
        self.number = number
        self.gone = False
        """Whether it was reset, by either side, or its connection has ended, before its response was sent."""
        self._over = False
        """The same, though it was sent."""
        self._sent = False
        """Whether the socket has the end of the response."""
        self._http2 = http2
        self._head = head
        self._pieces: list[bytes] = []
        self.waiting = 0
        """Bytes of the body that were received and are not read yet."""
        self._body_ended = False
        self._body_read = False
        self._left: int | None = None  # of the response's content-length
        self._begun = False
        self._ended = False
        self._continues = (b"expect", b"100-continue") in head.headers
        self._news = Condition()
        self.needs = 1
        """Bytes of room without which it cannot go on: an end without a byte needs none."""
        self.room = Condition()
        """Notified when there may be room for what it has to send, and when nobody wants that any more."""

    @property
    def scope(self) -> Message:
        """The ASGI scope. Where an application finds its connection, it finds this stream: it is what it may end."""
        path, _, query = self._head.target.partition(b"?")
        transport: Any = self._http2.connection.stream
        return {
            "type": "http",
            "http_version": "2",
            "asgi": {"spec_version": "2.4", "version": "3.0"},
            "method": self._head.method,
            "scheme": "https" if isinstance(transport, trio.SSLStream) else "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._head.headers,
            "client": None,
            "server": None,
            "state": {STATE_KEY: self},
            "extensions": {},
        }

    # What comes: for the connection's reader

    def take(self, data: bytes, length: int) -> None:
        """A piece of the body, and the bytes that it counts for."""
        if self._ended and self._body_read:
            self._http2.acknowledge(length, self.number)
            return
        self._pieces.append(data)
        self.waiting += length
        self._news.notify_all()

    def end_body(self) -> None:
        """The body is whole."""
        self._body_ended = True
        self._news.notify_all()

    def hang_up(self) -> None:
        """The client is gone, or does not want this any more."""
        self._over, self.gone = True, not self._sent
        self._news.notify_all()
        self.room.notify_all()

    def note_sent(self) -> None:
        """The response is sent, whatever comes now."""
        self._sent = True
        self.room.notify_all()

    def let_on(self) -> None:
        """There may be more room."""
        self.room.notify_all()

    # For the application

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        await self._maybe_continue()
        while not (self.gone or self._over):
            if self._pieces or (self._body_ended and not self._body_read):
                await trio.lowlevel.checkpoint()
                self._body_read = self._body_ended
                return {
                    "type": "http.request",
                    "body": self._take_pieces(),
                    "more_body": not self._body_ended,
                }
            if self._ended and self._body_read:
                break
            await self._news.wait()
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    def _take_pieces(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        length, self.waiting = self.waiting, 0
        self._http2.acknowledge(length, self.number)
        self._http2.flush()
        return data

    async def _maybe_continue(self) -> None:
        """Say `100 Continue` to who waits for it: the body is wanted now."""
        if self._continues and not self.gone and not self._begun:
            self._continues = False
            if not self._pieces and not self._body_ended:
                self._tell([(b":status", b"100")], last=False)
                await trio.lowlevel.checkpoint()

    async def send(self, message: Message) -> None:
        """ASGI's `send`. To a client that is gone it sends nothing, without a word; see `gone`."""
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and self._begun and not self._ended:
            await self._send_body(bytes(message.get("body", b"")), last=not message.get("more_body", False))
            return
        await trio.lowlevel.checkpoint()

    def _start(self, message: Message) -> None:
        headers = [(b":status", b"%d" % message["status"])]
        for name, value in message.get("headers", ()):
            if (lower := bytes(name).lower()) not in _OF_A_CONNECTION:
                headers.append((lower, bytes(value).strip()))
            if lower == b"content-length" and value.isdigit():
                self._left = int(value)
        headers.append((b"date", self._http2.connection.date().encode()))
        self._begun = True
        bodyless = self._head.method == "HEAD" or message["status"] in (204, 304)
        self._tell(headers, last=bodyless)

    def _tell(self, headers: list[tuple[bytes, bytes]], *, last: bool) -> None:
        if self.gone:
            return
        try:
            self._http2.h2.send_headers(self.number, headers, end_stream=last)
        except h2.exceptions.ProtocolError:  # it was closed a moment ago
            self.gone = True
        self._ended = last
        self._http2.flush()

    async def _send_body(self, data: bytes, *, last: bool) -> None:
        """Send, piece by piece, as there is room; a body ends with the last byte that its head has promised."""
        if self._left is not None:
            self._left -= len(data)
            last = last or self._left <= 0
        view = memoryview(data)
        try:
            while not self.gone and (view or last):
                room, self.needs = self._room(), min(len(view), 1)
                if room < self.needs:
                    await self._wait()
                    continue
                self._put(bytes(view[:room]), last=last and len(view) <= room)
                view = view[room:]
                last = last and not self._ended
        finally:
            self._http2.let_next_on()
        if self._ended:
            self._http2.await_sent(self)
        await trio.lowlevel.checkpoint()
        while self._ended and not (self.gone or self._sent):  # what waits for the socket is not delivered
            await self.room.wait()

    def _room(self) -> int:
        try:
            return self._http2.room(self.number)
        except h2.exceptions.ProtocolError:
            self.gone = True
            return 0

    def _put(self, data: bytes, *, last: bool) -> None:
        try:
            self._http2.h2.send_data(self.number, data, end_stream=last)
        except h2.exceptions.ProtocolError:
            self.gone = True
            return
        self._ended = last
        self._http2.h2.allowance += 2
        self._http2.flush()

    async def _wait(self) -> None:
        if not self.gone and not await self._http2.wait_room(self):
            self._http2.give_up(self.number)
            self.hang_up()

    # What `HTTPCycle` asks of a connection

    @property
    def awaits_body(self) -> bool:
        """Whether something of the body is still to be read."""
        return bool(self._pieces) or not self._body_ended

    def note_taken(self, count: int) -> None:
        """`receive` has weighed them."""

    def cork(self) -> None:
        """The connection's writer puts together what comes at once."""

    async def uncork(self) -> None:
        """See `cork`."""
        await trio.lowlevel.checkpoint()

    def check_raw(self, raw: RawResponse) -> None:
        """Its frames have a place for a head, a body, and the end of a stream or its reset."""
        if raw.status is None and raw.size:
            raise ValueError("HTTP/2 has no bytes without a head: give a status, or no body")

    async def send_raw(self, raw: RawResponse, *, begins: bool, ends: bool) -> None:
        """Head, body and end, as far as there are frames for that: a stream that was to go until the connection's end
        is ended, any other that breaks off is reset. As of `Transport`."""
        if begins and raw.status is not None:
            headers = [(name.encode(), value.encode("latin-1")) for name, value in raw.headers.items()]
            self._start({"status": raw.status, "headers": headers})
            self._left = None  # a length that is wrong stays wrong
        for pause, data in raw.pieces:
            await trio.sleep(pause)
            if data and not self._ended:
                await self._send_body(data, last=False)
        if not ends or raw.end == "stall":
            return
        if raw.end == "whole" or (raw.end == "close" and raw.framing == "close"):
            await self._send_body(b"", last=True)
        else:
            await self.abort()

    async def wait_ending(self) -> None:
        """See `BaseConnection`."""
        await self._http2.connection.wait_ending()

    @property
    def keyless(self) -> bool:
        """Whether the client has not shown a key yet."""
        return self._http2.connection.keyless

    def admit(self) -> None:
        """The client has shown a key that opens something here."""
        self._http2.connection.admit()

    async def go_on(self) -> None:
        """Nothing: `receive` asks for the body."""

    async def abort(self) -> None:
        """End it so that the client must see that something is missing."""
        self._end(INTERNAL_ERROR)
        await trio.lowlevel.checkpoint()

    # The end

    async def finish(self) -> None:
        """The application has returned: end what is not ended."""
        if not self._ended:
            self._end(INTERNAL_ERROR)
        else:
            if self.waiting:
                self._take_pieces()
            if not self._body_ended:  # and the application has waited for it
                self._end(NO_ERROR)

    def _end(self, code: int) -> None:
        if not self.gone:
            self._http2.reset(self.number, code)
        self.hang_up()
