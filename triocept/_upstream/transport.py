"""HTTP connections to a provider with httpx2. Only this module handles errors of httpx2 and httpcore2.

Rules:

1. Each upstream has one client, which owns the connections. The connections are closed when the client is closed. The
   number of connections is not limited, because the limiter limits the number of calls.
2. Bytes are passed on when they arrive. No minimum size of a read is set, because bytes would then wait for further
   bytes.
3. No redirect is followed, because the key would be sent to the other address.
4. A failure of the connection in the middle of an answer raises `UpstreamTruncated`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from socket import gaierror
from typing import TypeVar
from urllib.parse import urlsplit

import httpcore2
import httpx2
import msgspec
import trio

from ..errors import UpstreamError, UpstreamTruncated
from .address import Address
from .patience import Patience
from .pausing import InFlight
from .proxies import Proxy, check_proxies, proxies, proxy_for
from .request import MAX_DOCUMENT, ProviderRequest
from .tap import TappedPool, take_body

E = TypeVar("E", bound=BaseException)
IDLE = 3.0
"""Seconds for which an idle connection stays open. Node and uvicorn close idle connections after 5 s, and no call
should use a connection that is just closing."""
DRAIN = 0.5
"""Seconds that a call waits, once the answer is complete, for the end of the body, without which the connection cannot
be reused."""


class ProviderReply:
    """A provider's HTTP response whose head has arrived, and whose body can be read.

    If `stream` is True, the body is read without httpx2 if possible (see the module `tap`).
    """

    def __init__(self, response: httpx2.Response, patience: Patience, *, stream: bool) -> None:
        self._response = response
        self.patience = patience
        self.in_flight: InFlight
        """The call that this response answers. The upstream sets this attribute."""
        self._source: AsyncIterator[bytes] | None = None
        self._raw = response.headers.get("content-encoding", "identity").lower() in ("", "identity")
        self._tapped = take_body(response) if stream and self._raw else None
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def receive(self) -> bytes:
        """Wait for more bytes of the body, and return them. Return empty bytes at the end of the body.

        Raise UpstreamTruncated if the connection ended before the end of the body. Cancellation: no further bytes of
        the body can be received.
        """
        try:
            if self._tapped is not None:
                return await self._tapped.receive()
            return await anext(self._iterated(), b"")
        except _FOREIGN as exc:
            raise _mapped(exc, begun=True) from exc

    def _iterated(self) -> AsyncIterator[bytes]:
        if self._source is None:
            self._source = self._response.aiter_raw() if self._raw else self._response.aiter_bytes()
        return self._source

    async def read(self, limit: int = MAX_DOCUMENT) -> bytes:
        """Return the whole body.

        If the connection fails after a complete JSON object has arrived, the failure is ignored.

        Raise UpstreamError if the body is larger than `limit` bytes. Also raise the errors of `receive`.
        """
        body = bytearray()
        try:
            while piece := await self.receive():
                if not piece.isspace():
                    self.patience.reset()
                body += piece
                if len(body) > limit:
                    raise UpstreamError(f"the provider's answer is larger than the maximum of {limit} bytes")
        except UpstreamTruncated:
            try:  # the end of a JSON object is marked in the object itself
                is_whole = isinstance(msgspec.json.decode(bytes(body)), dict)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                is_whole = False
            if not is_whole:
                raise
        return bytes(body)

    async def drain(self) -> None:
        with trio.move_on_after(DRAIN), suppress(UpstreamError):
            while await self.receive():
                pass

    async def aclose(self) -> None:
        """Finish the use of the response. If the body was not read to its end, close the connection."""
        try:
            if self._tapped is not None and self._tapped.conclude():
                await anext(self._iterated(), b"")
            await self._response.aclose()
        except _FOREIGN as exc:
            raise _mapped(exc, begun=True) from exc
        if self._source is None:
            return
        try:
            async for _ in self._source:
                pass  # httpx2 leaves unfinished generators to the garbage collector; closing ends them now
        except (*_FOREIGN, trio.ClosedResourceError):
            pass


class ProviderClient:
    """The HTTP connections of one upstream."""

    def __init__(self, client: httpx2.AsyncClient, *, proxied: bool) -> None:
        self._client = client
        self._proxied = proxied
        self.closed = False

    @asynccontextmanager
    async def open(self, call: ProviderRequest, patience: Patience) -> AsyncIterator[ProviderReply]:
        """Send `call`, and yield the response when its head has arrived.

        If the response's body is not read to its end, the connection is closed.

        Raise an `UpstreamError`: with 502 if no server answers, or if the response is not HTTP; with 504 if no
        connection was made in time.
        """
        try:
            # Pass bytes: an agent's header may contain non-ASCII bytes, and is forwarded unchanged.
            headers = [
                (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
                for name, value in call.headers.items()
            ]
            request = self._client.build_request(call.method, call.url, headers=headers, content=call.body)
            response = await self._client.send(request, stream=True)
        except _FOREIGN as exc:
            proxy = proxy_for(call.url) if self._proxied else None
            raise _mapped(exc, begun=False, address=call.address, proxy=proxy) from exc
        reply = ProviderReply(response, patience, stream=call.stream)
        try:
            yield reply
        finally:
            await reply.aclose()


@asynccontextmanager
async def open_provider_client(
    *,
    connect_timeout: float | None,
    tls: ssl.SSLContext | None,
    address: Address,
) -> AsyncIterator[ProviderClient]:
    """Open the HTTP client of one upstream. No connection is made before the first call.

    Args:
        connect_timeout: maximum seconds for connecting, in each try.
        tls: TLS settings. None means that the system's certificates are trusted.
        address: the base URL. An upstream on this machine is called directly, even if the environment names a proxy,
            because the proxy would get the key and could not reach the upstream.

    Raises:
        ValueError, ModuleNotFoundError: a proxy that the environment names cannot be used.
    """
    # True if the environment names a proxy: httpx2 then decides which calls go through it.
    proxied = not address.here and bool(proxies())
    if tls is None and address.secure:  # plain HTTP needs no certificates, which take 20 ms to load
        tls = httpx2.create_ssl_context()
    if proxied:
        check_proxies()
    async with httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=connect_timeout),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE),
        verify=tls if tls is not None else False,
        transport=None if proxied else TappedPool(keepalive=IDLE, ssl_context=tls),
        follow_redirects=False,
    ) as client:
        transport = ProviderClient(client, proxied=proxied)
        try:
            yield transport
        finally:
            transport.closed = True


_FOREIGN = (
    *(httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL),
    *(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError),
    *(httpcore2.ProxyError, httpcore2.UnsupportedProtocol),
)


def _mapped(exc: Exception, *, begun: bool, address: str = "", proxy: Proxy | None = None) -> UpstreamError:
    """Return the `UpstreamError` for an error of httpx2 or httpcore2.

    Args:
        exc: the error.
        begun: True if the head of the answer has arrived.
        address: the URL of the call.
        proxy: the proxy through which the call was sent; None if no proxy was used.
    """
    by, otherwise = "", ""
    if proxy is not None:
        by = f" by the proxy {proxy.address}, which {proxy.variable} names"
        otherwise = f"; to call the provider without the proxy, run `unset {proxy.variable}`"
    match exc:
        case httpx2.ConnectTimeout() | httpcore2.ConnectTimeout():
            return UpstreamError(
                f"no connection to the provider within the time limit, at {address}{by}{otherwise}",
                status=504,
            )
        case httpx2.ConnectError() | httpcore2.ConnectError():
            reason = _reason(exc)
            if (unknown := _cause(exc, gaierror)) is not None:
                host = urlsplit(address).hostname if proxy is None else proxy.address
                reason = f"the host {host} was not found ({unknown.strerror})"
                otherwise = otherwise or "; correct the base URL"
            elif proxy is None and (failed := _cause(exc, ssl.SSLError)) is not None:
                reason = f"the TLS handshake failed ({failed.reason or failed})"
                if failed.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
                    reason += "; if the server uses plain HTTP, write http:// in the base URL"
            elif proxy is None:
                otherwise = "; start the server, or correct the base URL"
            return UpstreamError(f"no connection to the provider at {address}{by}: {reason}{otherwise}")
        case httpx2.ProxyError() | httpcore2.ProxyError():
            return UpstreamError(
                f"the proxy did not connect to the provider: {_reason(exc)}; the address is {address}{by}{otherwise}"
            )
        case httpx2.DecodingError():
            return UpstreamError(f"the provider's answer does not match its content-encoding: {_reason(exc)}")
        case httpx2.InvalidURL():
            return UpstreamError(f"no request can be sent to the provider's URL: {_reason(exc)}")
        case _ if begun:
            return UpstreamTruncated(f"the provider's answer ended too early: {_reason(exc)}")
        case _:
            return UpstreamError(f"the connection to the provider failed: {_reason(exc)}")


def _cause(exc: BaseException | None, kind: type[E]) -> E | None:
    while exc is not None and not isinstance(exc, kind):
        exc = exc.__cause__ or exc.__context__
    return exc


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
