"""httpx2's own transport, except that its connections have a tap (`tap`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpcore2
import httpx2
import trio

from .._util.failures import raise_all, run_each
from .tap import Stale, TappedBackend


class TappedPool(httpx2.AsyncBaseTransport):
    """A pool of connections, as many as there are calls. It raises httpcore2's errors.

    If a reused connection breaks before the first byte of an answer, the request is sent once more, on a new
    connection.

    Args:
        keepalive: seconds for which an idle connection is kept.
        ssl_context: for https; None: for plain HTTP only.
    """

    def __init__(self, *, keepalive: float, ssl_context: ssl.SSLContext | None) -> None:
        self._pool = _pool(ssl_context, keepalive, most=None)
        self._fresh = _pool(ssl_context, keepalive, most=0)
        """A pool that makes a connection for each request."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        asked = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(asked)
        except (
            Stale
        ):  # also for a POST: no byte of its answer has arrived, and a repeated model call does no harm
            answer = await self._fresh.handle_async_request(asked)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close each connection, even if closing another one is interrupted: httpcore2 would forget the rest."""
        connections = [*self._pool.connections, *self._fresh.connections]
        closings = (connection.aclose for connection in connections)
        raise_all(await run_each(*closings, self._pool.aclose, self._fresh.aclose))


def _pool(
    ssl_context: ssl.SSLContext | None, keepalive: float, *, most: int | None
) -> httpcore2.AsyncConnectionPool:
    """Return a pool of connections that have a tap.

    Args:
        ssl_context: for https.
        keepalive: seconds for which an idle connection is kept.
        most: maximum idle connections that are kept; None: any number.
    """
    return httpcore2.AsyncConnectionPool(
        ssl_context=ssl_context,
        max_connections=None,
        max_keepalive_connections=most,
        keepalive_expiry=keepalive,
        network_backend=TappedBackend(),
    )


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._answer.aiter_stream()) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
