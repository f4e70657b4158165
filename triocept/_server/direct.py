"""Model calls on HTTP/1.1, straight from hypercorn's parser to `intake`.

hypercorn hands each request's head, body and end to a stream object of its own, which makes ASGI of them: a scope, a
channel, a task, a message for each piece. Here a stream of ours takes the model calls; every other request of the
same connection goes hypercorn's way, as HTTP/2 and websockets do. Both ways end in the same `intake`.

Rules:

1. The key is checked, and the declared size, before the body is read.
2. A stream belongs to one request and shares nothing with the next one of its connection: a pipelined request may
   begin while the task of the one before it still ends.
3. Once the end of a response is on its way, the close of the stream means nothing to it.
4. A request that is answered before its body was read is answered whole, then its body is thrown away for a while,
   then the connection ends: closing at once would reset it, and the answer would be lost on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import h11
import trio
from hypercorn.protocol.events import Body, EndBody, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol

from .answer import Reply
from .connection import Connection
from .http1 import HTTP1
from .intake import LINGER, BodyTooLarge, ClientGone, Head, Transport, text_headers
from .routes import Route, Routes

__all__ = ["DirectProtocol", "DirectStream", "Intake"]

Intake: TypeAlias = Callable[[Route, Head, Transport], Awaitable[None]]
"""Answers one model call."""


class DirectProtocol(HTTP1):
    """HTTP/1.1, with the model calls on their own way.

    Args:
        other: the protocol that it stands in for.
        connection: what it is spoken on.
        routes: which paths are model calls.
        intake: what answers them.
    """

    def __init__(self, other: H11Protocol, connection: Connection, routes: Routes, intake: Intake) -> None:
        super().__init__(other, connection)
        self._routes = routes
        self._intake = intake

    async def _create_stream(self, request: h11.Request) -> None:
        route, head = self._read_head(request)
        if route is None:
            await super()._create_stream(request)
            return
        stream = DirectStream(self, self._connection, head)
        self.stream = stream  # type: ignore[assignment]
        self.task_group.spawn(stream.run, self._intake, route)

    def _read_head(self, request: h11.Request) -> tuple[Route | None, Head]:
        path, _, query = request.target.decode("ascii").partition("?")
        head = Head(
            method=request.method.decode("ascii").upper(),
            path=path,
            query=query,
            headers=text_headers(request.headers),
        )
        # A HEAD has no body in its answer, and a path with escapes is hypercorn's to read.
        plain = head.method != "HEAD" and "%" not in path and "upgrade" not in head.headers
        return (self._routes.match(path, query) if plain else None), head


class DirectStream:
    """One model call and its answer: a stream for hypercorn, a `Transport` for `intake`."""

    def __init__(self, protocol: DirectProtocol, connection: Connection, head: Head) -> None:
        self._protocol = protocol
        self._connection = connection
        self._head = head
        self._pieces: list[bytes] = []
        self._size = 0
        self._complete = False
        self._gone = False
        self._ending = False
        self._dropping = False
        self._arrival = trio.lowlevel.ParkingLot()
        self._scope: trio.CancelScope | None = None

    async def handle(self, event: Any) -> None:
        """What hypercorn's parser has read. Never waits: the parser reads on for the sake of the hang-up."""
        if isinstance(event, Body):
            self._size += len(event.data)
            if not self._dropping:
                self._pieces.append(bytes(event.data))
        elif isinstance(event, EndBody):
            self._complete = True
        elif isinstance(event, StreamClosed) and not self._ending:
            self._gone = True
            if self._scope is not None:
                self._scope.cancel()
        self._arrival.unpark_all()

    async def run(self, intake: Intake, route: Route) -> None:
        """Answer. A call that is not answered to its end takes its connection along."""
        try:
            await intake(route, self._head, self)
        finally:
            if not self._ending:
                await self._connection.abort()

    async def receive_body(self, cap: int) -> bytes:
        length = self._head.headers.get("content-length", "")
        if length.isdecimal() and int(length) > cap:
            raise BodyTooLarge
        while not self._complete:
            if self._gone:
                raise ClientGone
            if self._size > cap:
                raise BodyTooLarge
            await self._arrival.park()
        if self._size > cap:
            raise BodyTooLarge
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def cancel_when_gone(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        if self._gone:
            scope.cancel()

    async def send(self, reply: Reply) -> None:
        headers = [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in reply.headers.items()
        ]
        early = reply.last and not self._complete
        if reply.last:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        if early:
            headers.append((b"connection", b"close"))
        events: list[Any] = [h11.Response(status_code=reply.status, headers=headers)]
        await self._send(events, reply.body, last=reply.last and not early)
        if early:
            await self._linger()
            await self._send([], b"", last=True)

    async def send_more(self, data: bytes, *, last: bool) -> None:
        await self._send([], data, last=last)

    async def abort(self) -> None:
        self._ending = True
        await self._connection.abort()

    async def _send(self, events: list[Any], data: bytes, *, last: bool) -> None:
        """These events, then a piece of the body, then its end if this is it: in one piece."""
        if data:
            events.append(h11.Data(data=data))
        if last:
            events.append(h11.EndOfMessage())
        connection = self._connection
        connection.cork()
        for event in events:
            await self._protocol._send_h11_event(event)
        self._ending = self._ending or last
        await connection.uncork()
        if last:
            await self._protocol.stream_send(StreamClosed(stream_id=STREAM_ID))

    async def _linger(self) -> None:
        self._dropping = True
        self._pieces.clear()
        with trio.move_on_after(LINGER):
            while not (self._complete or self._gone):
                await self._arrival.park()
