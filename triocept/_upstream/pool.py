"""httpx2's own transport, but for the connections: they have a tap (`tap`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpcore2
import httpx2

from .tap import TappedBackend

__all__ = ["TappedPool"]


class TappedPool(httpx2.AsyncBaseTransport):
    """A pool of connections, as many as there are calls. It raises httpcore2's errors.

    Args:
        keepalive: seconds for which an idle connection is kept.
        ssl_context: for https; None: of plain HTTP only.
    """

    def __init__(self, *, keepalive: float, ssl_context: ssl.SSLContext | None) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=keepalive,
            network_backend=TappedBackend(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._answer.aiter_stream()) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
