"""A connection based on hypercorn's TCPServer. If one connection fails, the other connections continue.

Three properties of hypercorn 0.18 are not acceptable for an endpoint (each has a regression test in
tests/server/test_findings.py):

* an unexpected exception in one connection cancels the server's nursery, and so ends every other connection;
* hypercorn shields `send_all` without a deadline, so the connection of a client that stops reading outlives
  cancellation and shutdown;
* hypercorn cannot break off a connection on purpose. But an agent recognises the failure of a stream only by a broken
  connection.

Two more properties cost a fifth of a request's time. First, hypercorn starts a task for the idle timer of each request.
In triocept, a connection may be idle until the server stops. Second, hypercorn sends the head of a response separately.

`TCPServer(app, config, context, state, stream)`, `_read_data`, `_close` and `ProtocolWrapper` are internals of
hypercorn, identical in 0.17.3 and 0.18.0.
"""

from __future__ import annotations

import os
import ssl
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from .._rollout.answer import ClientGone
from .._util.bare_socket import BareSocket
from .base_connection import BaseConnection, CountedReads, acquire
from .http1 import HTTP1, HungUp
from .raw import end_raw, send_raw
from .transport import STATE_KEY
from .websocket_connection import WebSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Config
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import AppWrapper

    from .._trace.raw import RawResponse
    from .admission import Admission
    from .front import Front
    from .http11 import HTTP11
    from .transport import Head

READ_AHEAD = 256 * 1024
"""Maximum bytes of later requests that a connection reads while a request waits for its answer. It reads them in order
to notice when the client hangs up."""
_REFUSED_SECONDS = 1.0
"""Maximum seconds for which the rest of a refused head is received and discarded."""


def _last_words(status: int, text: str) -> bytes:
    body = b'{"error":{"message":"%b"}}' % text.encode()
    head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body


_TOO_LATE = _last_words(408, "the head of the request was not complete in time")
_SPEAK_TLS = _last_words(400, "this port accepts only HTTPS: use a URL that begins with https://")
_NO_HTTP2 = _last_words(
    505,
    "the endpoint does not support HTTP/2: use HTTP/1.1; a reverse proxy in front of the endpoint can offer HTTP/2 to "
    "clients",
)
TOO_MANY = _last_words(503, "too many connections are open: connect again later").replace(
    b"\r\n\r\n", b"\r\nretry-after: 1\r\n\r\n", 1
)
"""The response to a new connection when too many connections are open."""


class Connection(TCPServer, BaseConnection):  # type: ignore[misc]  # hypercorn types `stream` differently
    """A client connection, from its first byte until it is closed.

    `http11` creates the HTTP/1.1 implementation for model calls. If `http11` is None, hypercorn's implementation serves
    model calls, too.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SSLStream[CountedReads] | trio.SocketStream,
        *,
        admission: Admission,
        http11: Callable[[Connection], HTTP11] | None,
        front: Front,
        max_body: int,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({STATE_KEY: self}), stream)  # type: ignore[arg-type]
        BaseConnection.__init__(self, stream, admission)  # hypercorn's own __init__ does not call its super
        self._http11 = http11
        self._front = front
        self.key_places = front.keys.places
        """Names of the headers in which the endpoint reads keys."""
        self._max_body = max_body
        self._corked: bytearray | None = None
        self._work = trio.CancelScope()

    async def run(self) -> None:
        secure = isinstance(self.stream, trio.SSLStream)
        try:
            if secure:
                self.begin_head()  # the TLS handshake has the same time limit as a request head
                with self._work:
                    await trio.lowlevel.wait_readable(self._socket)
                    await self.wait_turn()  # because a handshake takes a millisecond of processor time
                    await self.stream.do_handshake()
                if self._work.cancelled_caught:
                    return
                self.end_head()
                self._work = trio.CancelScope()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            cause = exc.__cause__
            if isinstance(cause, ssl.SSLError) and cause.reason == "HTTP_REQUEST" and BareSocket.usable:
                with suppress(OSError):  # the client has disconnected
                    os.write(self._socket.fileno(), _SPEAK_TLS)
            return
        try:
            with self._work if secure else nullcontext():
                await self._speak(secure)
            if self._work.cancelled_caught:  # on TLS only its own task may write
                with (
                    trio.move_on_after(_REFUSED_SECONDS),
                    suppress(trio.BrokenResourceError, trio.ClosedResourceError),
                ):
                    await self.stream.send_all(_TOO_LATE)
                    await self.stream.aclose()
        except OSError:
            pass
        finally:
            self._drop()
            await self._close()

    async def _speak(self, secure: bool) -> None:
        if self._http11 is not None and not await self._http11(self).run():
            return
        sock = self._socket  # its addresses are read outside of the nursery, which would wrap an OSError
        client = parse_socket_addr(sock.family, sock.getpeername())
        server = parse_socket_addr(sock.family, sock.getsockname())
        async with TaskGroup() as task_group:
            self._task_group = task_group
            self.protocol = self._open_protocol(task_group, secure, client, server)
            await self.protocol.initiate()
            try:
                while await self._read_piece():
                    if self._http1 is not None and self._http1.head_begun:
                        self.begin_head()
                    self.hold(self._buffered)
            except (trio.ClosedResourceError, trio.BrokenResourceError, HungUp):
                pass
            await self.protocol.handle(Closed())

    def _open_protocol(
        self, task_group: TaskGroup, secure: bool, client: Any, server: Any
    ) -> ProtocolWrapper:
        wrapper = ProtocolWrapper(
            self.app,
            self.config,
            self.context,
            task_group,
            ConnectionState(self.state),
            secure,
            client,
            server,
            self.protocol_send,
            "http/1.1",  # also if ALPN selected HTTP/2: `HTTP1` refuses a client that then uses HTTP/2
        )
        assert isinstance(wrapper.protocol, H11Protocol)
        wrapper.protocol = HTTP1(wrapper.protocol, self)
        return wrapper

    async def refuse_http2(self) -> None:
        self.note(
            "http/2",
            "a client that used HTTP/2 was refused with the status 505, because the endpoint supports only HTTP/1.1: "
            "configure the client to use HTTP/1.1, or put a reverse proxy that accepts HTTP/2 in front of the endpoint",
        )
        await self._send(_NO_HTTP2)

    async def run_websocket(self, head: Head, rest: bytes) -> None:
        socket = WebSocket(self, head, rest, max_message=self._max_body)
        await self._front.websocket(head, socket)

    async def _read_piece(self) -> bool:
        """Receive and process one piece of bytes. Return False if the client has disconnected.

        This code is a separate method, so that the stack frame of its caller does not keep the piece in memory during
        the next wait.
        """
        data = bytes(self.ahead)
        self.ahead.clear()
        data = data or await self.receive(self._buffered)
        self.arrived_at = trio.current_time()
        self.hold(self._buffered + len(data))
        await self.protocol.handle(RawData(data))
        return bool(data)

    @property
    def _http1(self) -> HTTP1 | None:
        protocol = getattr(self, "protocol", None)  # unset until hypercorn has created it
        return protocol.protocol if protocol is not None and isinstance(protocol.protocol, HTTP1) else None

    @property
    def _buffered(self) -> int:
        return self._http1.buffered if self._http1 is not None else 0

    async def queue(self, message: Any, put: Callable[[Any], Awaitable[None]]) -> None:
        """Queue `message`, an ASGI message, by calling `put`. First count the bytes of its body as waiting."""
        if message is not None:
            self.queued += len(message.get("body", b""))
        await put(message)

    def note_taken(self, count: int) -> None:
        self.queued -= count
        self.hold(self._buffered)

    async def send_continue(self) -> None:
        if self._http1 is not None:
            await self._http1.send_continue()

    async def read_ahead(self) -> None:
        """Receive bytes while a request is being answered, to notice a disconnect.

        Return when the client has disconnected.

        Cancellation: no received bytes are lost.
        """
        behind = self._buffered
        self.hold(behind)
        try:
            while len(self.ahead) < READ_AHEAD:
                data = await self.receive(behind + len(self.ahead))
                if not data:
                    return
                self.ahead += data
                del data
                self.hold(behind + len(self.ahead))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return
        await trio.sleep_forever()

    async def throw_away(self) -> None:
        """Receive and discard the rest of a refused request head, for at most one second.

        The number of discarded bytes is limited, too: to the length of a few heads.
        """
        self.end_head()
        left = READ_AHEAD + 2 * self.limits.head_bytes - len(self.ahead)
        self._drop()
        self.hold(0)
        with (
            trio.move_on_after(_REFUSED_SECONDS),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            while left > 0 and (count := len(await self.receive(0))):
                left -= count

    def _drop(self) -> None:
        self.ahead.clear()
        if self._http1 is not None:
            self._http1.drop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self.idle = event.idle
            self.end_head()
        else:
            await super().protocol_send(event)

    async def wait_ending(self) -> None:
        await self.context.terminated.wait()

    def cork(self) -> None:
        """Keep all bytes that are written from now on. `uncork` sends them in one piece."""
        self._corked = bytearray()

    async def uncork(self) -> None:
        data, self._corked = self._corked, None
        if data:
            await self._send(data)

    def check_raw(self, raw: RawResponse) -> None:
        """Do nothing: every raw response is possible over HTTP/1.1."""

    async def send_raw(self, raw: RawResponse, *, begins: bool, ends: bool) -> None:
        """Send raw bytes without hypercorn, then end the connection as `raw.end` specifies. See `Transport.send_raw`.

        Raises:
            ClientGone: the client has hung up, or reads no more bytes. The connection was broken off.

        If `raw.end` is `stall`, the connection stays open.

        Cancellation: breaks the connection off.
        """
        await acquire(self.send_lock)
        try:
            await send_raw(self, raw, begins=begins, ends=ends)
            if ends and raw.end != "stall":
                await end_raw(self, raw.end)
        except trio.Cancelled:
            await self.abort()
            raise
        except trio.TooSlowError as exc:
            self.note_slow_reader()
            await self.abort()
            raise ClientGone from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            await self.abort()
            raise ClientGone from exc
        finally:
            self.send_lock.release()

    async def _send(self, data: bytes | bytearray) -> None:
        """Send `data`.

        Cancellation: closes the connection, because it is then unknown which part of the data was sent.
        """
        if self._corked is not None:
            self._corked += data
            return
        if not data:
            return
        await acquire(self.send_lock)
        try:
            # Discard the data that hypercorn still sends in a cancelled task.
            await trio.lowlevel.checkpoint_if_cancelled()
            self.outbox.write(bytes(data))
            await self.outbox.flush()
        except trio.Cancelled:
            await self.abort()
            raise
        except trio.TooSlowError:
            self.note_slow_reader()
            await self.abort()
            await self.protocol.handle(Closed())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
            await self.protocol.handle(Closed())
        finally:
            self.send_lock.release()

    def cut(self, *, late: bool = False) -> None:
        """Close the connection immediately.

        If `late` is True, first send 408, because a request head was not complete in time.
        """
        self.gone = True
        stream: Any = self.stream
        if late and isinstance(stream, trio.SSLStream):
            self._work.cancel()
        else:
            if late:
                self.outbox.write(_TOO_LATE)
            self._socket.close()
        self._drop()  # now, because the tasks of the connection end later
