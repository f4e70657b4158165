"""A tunnel for tests: a relay in the same program, that can be cut, silenced and moved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.ports import free_port
from triocept import TunnelError
from triocept.tunnels import Tunnel

PAGE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html>no</htm"


class Relay(Tunnel):
    """Its knobs hold for all that are open, and for those that will be."""

    def __init__(self, *, same_port: bool = False) -> None:
        self.same_port = same_port
        """Opened anew, it has the URL that it had before."""
        self.broken = False
        """It answers with an error page of its own."""
        self.refuses = 0
        """That many openings fail."""
        self.opened: list[str] = []
        """Every URL that it has given."""
        self.previous: list[str | None] = []
        self.open_now = 0
        self.target: int | None = None
        """Where it leads instead."""
        self._scopes: set[trio.CancelScope] = set()
        self.revives = False
        self._port = 0
        self.revived = 0

    def cut(self) -> None:
        """All that are open die."""
        for scope in self._scopes:
            scope.cancel()

    async def revive(self, url: str) -> bool:
        await trio.lowlevel.checkpoint()
        self.revived += 1
        if self.revives:
            self.broken = False
        return self.revives

    @asynccontextmanager
    async def open(self, port: int, *, previous: str | None = None, **_: Any) -> AsyncIterator[str]:
        self.previous.append(previous)
        if self.refuses:
            self.refuses -= 1
            raise TunnelError("the relay refuses")
        if self.same_port and self._port == 0:
            self._port = free_port()
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        self.opened.append(url)
        self.open_now += 1
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:

                async def relay(stream: trio.SocketStream) -> None:
                    await self._relay(stream, port)

                await nursery.start(trio.serve_listeners, relay, listeners)
                try:
                    with trio.CancelScope() as scope:
                        self._scopes.add(scope)
                        yield url
                except BaseException as exc:
                    error = exc
                self._scopes.discard(scope)
                nursery.cancel_scope.cancel()
        finally:
            self.open_now -= 1
        if error is not None:
            raise error
        if scope.cancelled_caught:
            raise TunnelError("the relay was cut")

    async def _relay(self, stream: trio.SocketStream, port: int) -> None:
        async with stream:
            try:
                if self.broken:
                    await stream.receive_some()
                    await stream.send_all(PAGE)
                    return
                async with await trio.open_tcp_stream("127.0.0.1", self.target or port) as inner:
                    async with trio.open_nursery() as nursery:

                        async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                            async for piece in source:
                                await sink.send_all(piece)
                            nursery.cancel_scope.cancel()

                        nursery.start_soon(pump, stream, inner)
                        nursery.start_soon(pump, inner, stream)
            except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass
