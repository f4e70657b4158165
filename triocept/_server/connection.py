"""One connection: hypercorn's TCPServer, made a fault domain of its own.

hypercorn 0.18 has three habits that an endpoint cannot live with (each has a regression test in
tests/server/test_findings.py):

* an unexpected exception of one connection leaves the server's nursery, and takes every other connection along;
* it shields `send_all` without a deadline, so that a client which stops reading outlives cancellation and shutdown;
* it knows no way to break a connection off on purpose, which is how an agent must see a stream that failed.

And two that cost a fifth of a request's time: a task for the idle timer of each request, which here is none (a
connection may idle for ever, until the server stops), and a send of its own for a response's head.

`TCPServer(app, config, context, state, stream)`, `_read_data`, `_close` and `ProtocolWrapper` are hypercorn's inside:
the same in 0.17.3 and 0.18.0.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from .._rollout.log import acquire
from .http1 import HTTP1, HungUp
from .http2 import HTTP2
from .websocket_connection import WebSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.config import Config
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import AppWrapper

    from .._limits import EndpointLimits
    from .fast import FastWay
    from .front import Front
    from .intake import Head

__all__ = ["STATE_KEY", "Connection"]

STATE_KEY = "triocept.connection"
"""Where an ASGI scope's `state` holds the connection that it came on."""
READ_AHEAD = 256 * 1024
"""Bytes that are read of the requests behind one that waits, for the sake of the hang-up."""
MAX_RECEIVE = 128 * 1024
"""Bytes. A long conversation comes in one piece; with hypercorn's 64 KiB, and its scope for each, it came in three."""


class Connection(TCPServer):
    """One connection, from its first byte to its close.

    Args:
        limits: what it puts up with.
        fast: the way of model calls on HTTP/1.1, or None to leave them to hypercorn.
        front: the application, as HTTP/2 and websockets have it.
        max_body: bytes of a body, and of a websocket's message.
        http2: whether HTTP/2 is spoken on plain TCP to whoever begins with it. (On TLS it has been agreed on.)
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream,
        *,
        limits: EndpointLimits,
        fast: Callable[[Connection], FastWay] | None,
        front: Front,
        max_body: int,
        http2: bool,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({STATE_KEY: self}), stream)  # type: ignore[arg-type]
        self.idle = True
        """Whether it waits for a request, and nothing is lost by closing it."""
        self.gone = False
        """Whether something could not be sent, because the client has hung up."""
        self.limits = limits
        self.offers_http2 = http2
        self._fast = fast
        self._front = front
        self._max_body = max_body
        self._corked: bytearray | None = None
        self._ahead = bytearray()

    async def run(self) -> None:
        alpn, secure = "http/1.1", isinstance(self.stream, trio.SSLStream)
        try:
            if secure:
                with trio.fail_after(self.config.ssl_handshake_timeout):
                    await self.stream.do_handshake()
                alpn = self.stream.selected_alpn_protocol() or alpn
        except (trio.BrokenResourceError, trio.TooSlowError):
            return
        try:
            if self._fast is not None and alpn == "http/1.1":
                rest = await self._fast(self).run()
                if rest is None:
                    return
                self._ahead += rest
            if alpn == "h2":
                await self.run_http2()
                return
            async with TaskGroup() as task_group:
                self._task_group = task_group
                self.protocol = self._open_protocol(task_group, alpn, secure)
                await self.protocol.initiate()
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    def _open_protocol(self, task_group: TaskGroup, alpn: str, secure: bool) -> ProtocolWrapper:
        sock = (self.stream.transport_stream if secure else self.stream).socket
        wrapper = ProtocolWrapper(
            self.app,
            self.config,
            self.context,
            task_group,
            ConnectionState(self.state),
            secure,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self.protocol_send,
            alpn,
        )
        if isinstance(wrapper.protocol, H11Protocol):
            wrapper.protocol = HTTP1(wrapper.protocol, self)
        return wrapper

    async def run_http2(self, data: bytes = b"") -> None:
        """Speak HTTP/2 from here on, to its end; `data` was read already."""
        await HTTP2(self, self._front, limits=self.limits, shows_key=self._front.shows_key).run(data)

    async def run_websocket(self, head: Head, rest: bytes) -> None:
        """Speak websocket from here on, to its end; `rest` came behind the request that asked for it."""
        socket = WebSocket(
            self, head, rest, max_message=self._max_body, reader_seconds=self.limits.reader_seconds
        )
        await self._front.websocket(head, socket)

    async def _read_data(self) -> None:
        while True:
            try:
                data = self._take_ahead() if self._ahead else await self.stream.receive_some(MAX_RECEIVE)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            try:
                await self.protocol.handle(RawData(bytes(data)))
            except HungUp:
                break
            if not data:
                break
        await self.protocol.handle(Closed())

    async def read_ahead(self) -> None:
        """Read on, to see the client hang up; what comes is kept for later. Returns when it has.

        Cancellation: nothing that was read is lost.
        """
        try:
            while len(self._ahead) < READ_AHEAD:
                data = await self.stream.receive_some(MAX_RECEIVE)
                if not data:
                    return
                self._ahead += data
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return
        await trio.sleep_forever()

    def _take_ahead(self) -> bytearray:
        data, self._ahead = self._ahead, bytearray()
        return data

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self.idle = event.idle
        else:
            await super().protocol_send(event)

    @property
    def ending(self) -> bool:
        """Whether the server stops, and this connection ends with its response."""
        return bool(self.context.terminated.is_set())

    def date(self) -> str:
        """The value of a `Date` header."""
        return _date(int(time.time()))

    def cork(self) -> None:
        """Hold back what is sent, until `uncork`."""
        self._corked = bytearray()

    async def uncork(self) -> None:
        """Send what was held back, in one piece."""
        data, self._corked = self._corked, None
        if data:
            await self._send(data)

    async def _send(self, data: bytes | bytearray) -> None:
        """Send. A send that is cancelled has sent who knows how much: it breaks the connection off."""
        if self._corked is not None:
            self._corked += data
            return
        if not data:
            return
        await acquire(self.send_lock)
        try:
            await self.stream.send_all(data)
        except trio.Cancelled:
            await self.abort()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
            await self.protocol.handle(Closed())
        finally:
            self.send_lock.release()

    async def abort(self) -> None:
        """Break the connection off: no further byte, no clean end."""
        await trio.aclose_forcefully(self.stream)


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
