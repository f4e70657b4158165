"""A transport for httpx2 that reads the bodies of streams directly from the connection, for speed.

For a single read, httpx2 and h11 run eight generators and three parser steps: a third of the time that an event takes.
So httpx2 and h11 are used only for connections, TLS, the request and the head of the answer. The chunks of a streamed
body are read without httpx2 and h11.

Rules:

1. The HTTP parser gets no byte after the head before the parser reads the body. So if `take_body` is called before the
   parser reads the body, the whole body can be read without the parser.
2. When `TappedBody` has read a body to its end, the parser receives an empty body, so that the connection can be used
   again.
3. If a body is not read to its end, or bytes follow the body, the connection is closed.
4. If a reused connection ends or breaks before the first byte of the next answer, `Stale` is raised. The server could
   just have closed an idle connection, so the request may be sent again on another connection.
5. Only public interfaces of httpcore2 are used: a network backend, and a response's `network_stream`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, final

import httpcore2
import httpx2
import trio

from .._util.bare_socket import BareSocket
from .._util.failures import raise_all, run_each
from .chunked import ChunkedDecoder

_BLANK_LINE = re.compile(rb"\n\r?\n")  # equal to h11's pattern
_INFORMATIONAL = re.compile(rb"HTTP/1\.[0-9] 1(?!01)[0-9][0-9]\b")
_EMPTY_BODY = b"0\r\n\r\n"
_SIZE = 64 * 1024
"""Maximum bytes of one read."""


class Stale(httpcore2.RemoteProtocolError):
    """Error: the server closed a reused connection before the server sent a byte of the answer."""


def take_body(response: httpx2.Response) -> TappedBody | None:
    """Return an object that reads the response's body without the HTTP parser.

    Return None in three cases: the body is not chunked, the connection is not a `_Tap`, or a part of the body was
    already read.
    """
    tap = response.extensions.get("network_stream")
    coding = response.headers.get("transfer-encoding", "").lower()
    if isinstance(tap, _Tap) and coding == "chunked" and response.status_code == 200:
        return tap.take_body()
    return None


@final
class TappedBody:
    def __init__(self, tap: _Tap, begun: bytes) -> None:
        self._tap = tap
        self._data = begun
        self._chunks = ChunkedDecoder()

    async def receive(self) -> bytes:
        """Wait for more bytes of the body, and return them. Return empty bytes at the end of the body.

        Cancellation: no bytes are lost.

        Raises:
            httpcore2.RemoteProtocolError: the connection ended before the body had ended, or the chunks are invalid.
            httpcore2.ReadError: the connection broke.
        """
        try:
            while not self._chunks.ended:
                self._chunks.check()
                data, self._data = self._data or await self._tap.receive(), b""
                if not data:
                    raise httpcore2.RemoteProtocolError("the connection was closed before the body had ended")
                if piece := self._chunks.feed(data):
                    return piece
        except ValueError as exc:
            raise httpcore2.RemoteProtocolError(str(exc)) from exc
        return b""

    def conclude(self) -> bool:
        """Let the HTTP parser read an empty body, so that the connection can be reused.

        Return False if the body was not read to its end, or if bytes follow the body.
        """
        if not self._chunks.ended or self._chunks.rest:
            return False
        self._tap.put_back(_EMPTY_BODY)
        return True


@final
class _Tap(httpcore2.AsyncNetworkStream):
    """A connection of httpcore2 that stops reading after the head of an answer."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        tls = stream.get_extra_info("ssl_object") is not None
        plain = BareSocket.usable and not tls
        self._socket = BareSocket(stream.get_extra_info("socket")) if plain else None
        self._head: bytearray | None = None  # while a head is expected: its part that has arrived
        self._ahead = b""  # bytes that were read and not returned
        self._at_body = False
        self._used = False  # True if the connection has carried an answer before
        self._silent = True  # True if no byte has arrived since a request began

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._at_body = False
        data, self._ahead = self._ahead, b""
        if not data:
            try:
                data = await self._stream.read(max_bytes, timeout)
            except httpcore2.ReadError as exc:
                if self._used and self._silent:
                    raise Stale(str(exc)) from exc
                raise
            if not data and self._used and self._silent:
                raise Stale("the connection was closed before the answer")
            self._silent = self._silent and not data
        if (head := self._head) is None:
            return data
        # Only the part of `data` that belongs to the head is returned.
        seen = len(head)
        head += data
        found = _BLANK_LINE.search(head, max(0, seen - 2))
        if found is None:
            return data
        here = found.end() - seen
        data, self._ahead = data[:here], data[here:]
        self._at_body = _INFORMATIONAL.match(head) is None
        self._head = None if self._at_body else bytearray()
        self._used = self._used or self._at_body
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head, self._at_body, self._silent = bytearray(), False, True
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Tap:
        self._socket = None
        return _Tap(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def take_body(self) -> TappedBody | None:
        """Return the body of the answer; None if the head was not read, or if a part of the body was already read."""
        if not self._at_body:
            return None
        begun, self._ahead, self._at_body = self._ahead, b"", False
        return TappedBody(self, begun)

    def put_back(self, data: bytes) -> None:
        self._ahead = data

    async def receive(self) -> bytes:
        if self._socket is None:
            return await self._stream.read(_SIZE)
        try:
            return await self._socket.receive(_SIZE)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpcore2.ReadError(str(exc.__cause__ or exc)) from exc


class TappedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> _Tap:
        return _Tap(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class TappedPool(httpx2.AsyncBaseTransport):
    """A pool of any number of connections, as a transport for httpx2. Reading raises httpcore2's errors.

    If a reused connection breaks before the first byte of an answer, the request is sent once more, on a new
    connection.

    An idle connection stays open for `keepalive` seconds. If `ssl_context` is None, only plain HTTP is possible.
    """

    def __init__(self, *, keepalive: float, ssl_context: ssl.SSLContext | None) -> None:
        make = partial(
            httpcore2.AsyncConnectionPool,
            ssl_context=ssl_context,
            max_connections=None,
            keepalive_expiry=keepalive,
            network_backend=TappedBackend(),
        )
        self._pool = make(max_keepalive_connections=None)
        self._fresh = make(max_keepalive_connections=0)
        """Pool that keeps no idle connections, so that each request gets a new connection."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(sent)
        except Stale:
            # Repeat also a POST: no byte of its answer has arrived, and a repeated model call does no harm.
            answer = await self._fresh.handle_async_request(sent)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close every connection, even if an exception interrupts the closing of one of them.

        (httpcore2 alone would then leave the others open.)
        """
        connections = [*self._pool.connections, *self._fresh.connections]
        closings = (connection.aclose for connection in connections)
        raise_all(await run_each(*closings, self._pool.aclose, self._fresh.aclose))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._answer.aiter_stream()) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
