"""HTTP transport for the official SDKs' clients, with which httpx2 sends requests to a rollout without a socket.

Rules:

1. The read timeout of a client uses trio's clock. The client's other timeouts have no effect.
2. Errors of the connection are translated to the exceptions of httpx2.
3. Each request has its own connection.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar, final

import h11
import httpx2

from ...errors import ExchangeAbandoned, UpstreamTruncated
from .call import MemoryCall

T = TypeVar("T")

_NAMES = ("DefaultAsyncHttpx2Client", "DefaultAsyncHttpxClient")
"""Possible names of the HTTP client's class in an SDK, in the order in which they are tried. openai 3 uses the first
name. In openai 3, the second name may be a class of httpx and not of httpx2."""


def http_client(package: str, transport: MemoryHTTPTransport, options: Mapping[str, Any]) -> Any:
    """Return an instance of the SDK's own HTTP client class that uses `transport`.

    Raise ModuleNotFoundError if `package`, the SDK, is not installed, or does not use httpx2.
    """
    try:
        sdk = import_module(package)
    except ModuleNotFoundError as exc:
        text = f"the client needs the package {package!r}: pip install 'triocept[{package}]'"
        raise ModuleNotFoundError(text, name=package) from exc
    make = next(getattr(sdk, name) for name in _NAMES if hasattr(sdk, name))
    own = {"timeout": options["timeout"]} if "timeout" in options else {}
    made = make(transport=transport, **own)
    if isinstance(made, httpx2.AsyncClient):
        return made
    text = (
        f"this version of {package} uses httpx: for a rollout in memory, install a version that uses httpx2"
    )
    raise ModuleNotFoundError(text, name=package)


@final
class MemoryHTTPTransport(httpx2.AsyncBaseTransport):
    """Transport of httpx2 that sends each request as a call of an agent in memory.

    The function `begin` starts a call; its arguments are the head, the body, and the maximum seconds without a byte.
    """

    def __init__(self, begin: Callable[[h11.Request, bytes, float], MemoryCall]) -> None:
        self._begin = begin

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        head = h11.Request(
            method=request.method.encode(), target=request.url.raw_path, headers=request.headers.raw
        )
        silence = request.extensions.get("timeout", {}).get("read")
        call = self._begin(head, body, math.inf if silence is None else silence)
        try:
            await _translated(call.wait_head, request)
        except BaseException:
            call.hang_up()
            raise
        assert call.status is not None
        return httpx2.Response(
            call.status, headers=dict(call.headers), stream=_Body(call, request), request=request
        )


class _Body(httpx2.AsyncByteStream):
    def __init__(self, call: MemoryCall, request: httpx2.Request) -> None:
        self._call = call
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await _translated(self._call.receive, self._request)
        if data is not None:
            return data
        if self._call.broken:
            raise httpx2.RemoteProtocolError("the answer was broken off", request=self._request)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._call.hang_up()


async def _translated(wait: Callable[[], Awaitable[T]], request: httpx2.Request) -> T:
    try:
        return await wait()
    except TimeoutError as exc:
        raise httpx2.ReadTimeout(str(exc), request=request) from exc
    except UpstreamTruncated as exc:
        raise httpx2.RemoteProtocolError(exc.message, request=request) from exc
    except ExchangeAbandoned as exc:
        raise httpx2.ReadError(str(exc), request=request) from exc
