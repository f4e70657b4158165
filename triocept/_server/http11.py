"""Model calls over HTTP/1.1 without hypercorn: HTTP/1.1's own way.

Rules:

1. Only what is beyond doubt is served here: a POST to the path of a model call, with a head of strict grammar
   (RFC 9112) and a Content-Length. Anything else (another route, an upgrade, HTTP/2, chunks, a fold, a second Host)
   goes to hypercorn as it came, byte for byte, and so does the rest of its connection: what is answered there is
   answered as if this module were not there.
2. A connection has two tasks for as long as it lives, and none for a request: one reads, the other answers. The one
   that reads sees the hang-up, whatever the other does, and is its timer.
3. The key is checked, and the declared size, before the body is read.
4. A response and its head go out in one send.
5. A request that is answered before its body was read is answered whole, then its body is thrown away for a while,
   then the connection ends: closing at once would reset it, and the answer would be lost on its way.

httptools would parse a head no faster than one regular expression, and would accept what h11 does not.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from typing import TypeAlias, final

import trio

from .._rollout.answer import ClientGone, Condition
from .._trace.raw import RawResponse
from .admission import Share
from .base_connection import BaseConnection
from .inbox import Inbox
from .intake import LINGER
from .raw import end_raw, send_raw
from .routes import Route, Routes
from .transport import BodyTooLarge, Head, Reply, Transport

__all__ = ["HTTP11", "Intake"]

Intake: TypeAlias = Callable[[Route, Head, Transport], Awaitable[None]]
"""Answers one model call."""

_HEAD = re.compile(
    rb"POST (/[!-~]*+) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e]*+\r\n)++)\r\n"
)
_HYPERCORNS = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer"})


@final
class HTTP11:
    """The own way of one connection.

    Args:
        connection: what it is spoken on; it has not been read from.
        routes: which paths are model calls.
        intake: what answers them.
    """

    def __init__(self, connection: BaseConnection, routes: Routes, intake: Intake) -> None:
        self._connection = connection
        self._routes = routes
        self._intake = intake
        self._inbox = Inbox(connection)
        self._most_lines = connection.limits.head_lines + 2  # with the first line, and the blank one

    async def run(self) -> bool:
        """Serve model calls. Whether what is in the connection's `ahead` then is hypercorn's; else it has ended."""
        inbox = self._inbox
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.read)
            found = await self._serve()
            nursery.cancel_scope.cancel()
        return found

    async def _serve(self) -> bool:
        """Whether something that is hypercorn's was found."""
        while True:
            self._connection.idle = not self._inbox.data
            self._connection.hold(len(self._inbox.data))
            raw = await self._inbox.take_head()
            self._connection.idle = False
            if raw is None:
                return bool(self._inbox.data)
            call = self._read(raw)
            if call is None:
                self._inbox.put_back(raw)
                return True
            if not await call.run(self._intake):
                return False

    def _read(self, raw: bytes) -> _Cycle | None:
        """The call that begins with this head; None: it is none, or it is not beyond doubt."""
        match = _HEAD.fullmatch(raw) if raw.count(b"\n") <= self._most_lines else None
        if match is None:
            return None
        path, _, query = match[1].decode().partition("?")
        route = self._routes.match(path, query) if "%" not in path else None
        if route is None:
            return None
        lines = match[2].decode().split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[:-1]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip(" \t")
        length = headers.get("content-length", "")
        closes = headers.get("connection", "").lower()
        if (
            len(headers) != len(lines) - 1
            or "host" not in headers
            or not _is_length(length)
            or closes not in ("", "keep-alive", "close")
            or not _HYPERCORNS.isdisjoint(headers)
        ):
            return None
        head = Head("POST", path, query, headers)
        return _Cycle(self, route, head, int(length), closes=closes == "close")


def _is_length(text: str) -> bool:
    return 0 < len(text) < 16 and text.isascii() and text.isdigit()


@final
class _Cycle:
    """One request and its response; a `Transport` for `intake`."""

    def __init__(self, way: HTTP11, route: Route, head: Head, length: int, *, closes: bool) -> None:
        self._connection = way._connection
        self._inbox = way._inbox
        self._outbox = way._connection.outbox
        self._route = route
        self._head = head
        self._unread = length
        self._closes = closes
        self._start: tuple[int, Mapping[str, str]] | None = None
        """The head of the response, which waits for the first piece of the body."""
        self._chunked = False
        self._ended = False
        """Whether the end of the response was written."""
        self._stalls = False
        """Whether nothing more is to be said, though it has not."""

    async def run(self, intake: Intake) -> bool:
        """Answer. Whether the connection goes on: a call that is not answered to its end takes it along."""
        try:
            with suppress(ClientGone):  # while it was told of an error
                await intake(self._route, self._head, self)
                if self._ended and self._unread:
                    await self._linger()
                if self._stalls:
                    await self._stall()
        finally:
            self._inbox.on_gone(None)
            self._inbox.call_at(inf)
            if not self._ended:
                await self._connection.abort()
        return self._ended and not self._closes and not self._inbox.gone

    def admit(self) -> None:
        self._connection.admit()

    async def receive_body(self, cap: int, share: Share) -> bytes:
        if self._unread > cap:
            raise BodyTooLarge
        piece = self._inbox.take(self._unread)
        self._unread -= len(piece)
        if not self._unread:
            return piece  # as most: it does not wait
        pieces = [piece]
        share.add(len(piece))
        while self._unread:
            if self._inbox.gone and not self._inbox.data:
                raise ClientGone
            await self._inbox.arrival()
            pieces.append(piece := self._inbox.take(self._unread))
            self._unread -= len(piece)
            share.add(len(piece))
        return b"".join(pieces)

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._inbox.on_gone(callback)

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._start = status, headers

    def write(self, data: bytes, *, last: bool = False) -> bool:
        if self._start is not None:
            (status, headers), self._start = self._start, None
            self._chunked = not last
            data = self._head_of(status, headers, len(data)) + self._framed(data, last=last)
        else:
            data = self._framed(data, last=last)
        if last:  # from here on a hang-up means nothing
            self._ended = True
            self._inbox.on_gone(None)
        return self._outbox.write(data)

    def respond(self, reply: Reply) -> bool:
        self.start(reply.status, reply.headers)
        return self.write(reply.body, last=True)

    @property
    def full(self) -> bool:
        return self._outbox.full

    async def wait(self, news: Condition, until: float) -> None:
        self._inbox.call_at(until, news.notify_all)
        await news.wait()

    async def flush(self) -> None:
        if self._outbox.full:
            await self._send(self._outbox.flush())

    def check_raw(self, raw: RawResponse) -> None:
        """There are bytes for everything."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        await self._send(send_raw(self._connection, raw, begins=begins, ends=ends))
        if not ends:
            return
        self._inbox.on_gone(None)
        self._stalls = raw.end == "stall"
        if not self._stalls:
            await end_raw(self._connection, raw.end)

    async def _send(self, sending: Awaitable[None]) -> None:
        self._connection.hold(len(self._inbox.data))
        try:
            await sending
        except trio.Cancelled:
            await self._break_off()
            raise
        except trio.TooSlowError as exc:
            self._connection.note_slow_reader()
            await self._break_off()
            raise ClientGone from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            await self._break_off()
            raise ClientGone from exc

    async def abort(self) -> None:
        await self._connection.abort()

    async def _break_off(self) -> None:
        self._ended = False
        await self._connection.abort()

    async def _stall(self) -> None:
        """Say nothing until the client hangs up, or the server ends, for which nothing is worth a wait here."""
        self._connection.idle = True
        while not self._inbox.gone:
            await self._inbox.arrival()

    def _head_of(self, status: int, headers: Mapping[str, str], length: int) -> bytes:
        self._closes = self._closes or bool(self._unread) or self._connection.ending
        head = [f"HTTP/1.1 {status} \r\n"]
        head += [f"{name}: {value}\r\n" for name, value in headers.items()]
        head.append("transfer-encoding: chunked\r\n" if self._chunked else f"content-length: {length}\r\n")
        if self._closes:
            head.append("connection: close\r\n")
        head.append(f"date: {self._connection.date()}\r\n\r\n")
        return "".join(head).encode("latin-1", "replace")

    def _framed(self, data: bytes, *, last: bool) -> bytes:
        if not self._chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk + b"0\r\n\r\n" if last else chunk

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER):
            while self._unread and not self._inbox.gone:
                self._unread -= len(self._inbox.take(self._unread))
                if self._unread:
                    await self._inbox.arrival()
