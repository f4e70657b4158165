"""The interface of tunnels, the rules for their URLs, and the simplest tunnel: an existing proxy.

Rules:

1. A tunnel gets a port on which the endpoint already listens. A tunnel never chooses the endpoint's port.
2. A tunnel object contains only settings. The resources of a tunnel exist only while the context of `open` is active.
   The same object may be opened several times at once.
3. If a tunnel dies, the context of `open` cancels its body and raises `TunnelError`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias, final
from urllib.parse import urlsplit

from .._util.checks import check_str
from ..errors import TunnelError

Scheme: TypeAlias = Literal["http", "https"]


class Tunnel(ABC):
    """A tunnel, which makes the endpoint's port reachable from other machines.

    Subclass `Tunnel` for a tunnel of your own::

        class MyTunnel(Tunnel):
            @asynccontextmanager
            async def open(self, port, **_):
                async with my_service.expose(port) as name:
                    yield f"https://{name}.example"
    """

    dialable: bool = True
    """True if this machine can send requests to the tunnel's URL, to check that the URL leads to this endpoint."""

    @abstractmethod
    def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AbstractAsyncContextManager[str]:
        """Return an async context manager that opens the tunnel and yields its URL, without a trailing slash.

        Args:
            port: the port on which the endpoint already listens.
            host: the host on which the endpoint is reachable from this machine.
            scheme: the endpoint's scheme.
            previous: the URL of this endpoint's previous tunnel, which has died. The new tunnel gets the same URL if
                possible.

        Raises:
            TunnelError: the tunnel cannot be opened (raised when the context is entered), or has died (raised when the
                context is exited). If the tunnel dies, the body is cancelled.

        Closing: takes a limited time, even when cancelled. After that, no process or task of the tunnel runs.
        """

    async def revive(self, url: str) -> bool:
        """Try to restore a URL that no longer leads to the endpoint. Return True if the URL works again.

        If `revive` returns False, the tunnel is closed and opened again, and may get another URL.
        """
        return False


def check_url(url: str, *, whose: str) -> str:
    """Check that agents can use the URL as their base URL. Return the URL without a trailing slash.

    Raises:
        ValueError: agents cannot use the URL. The error's text begins with `whose`, which names the URL's source.
        TypeError: the URL is not a str.
    """
    check_str(whose, url)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{whose} must be a URL that begins with http:// or https://, not {url!r}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            f"{whose} must have no query, no fragment and no password, because agents use it as their base URL"
        )
    return url.rstrip("/")


def usable(url: str, *, whose: str) -> str:
    """Return a tunnel's URL in the form that `check_url` returns. Raise TunnelError if agents cannot use the URL."""
    try:
        return check_url(url, whose=whose)
    except ValueError as exc:
        raise TunnelError(str(exc)) from exc


def is_here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return False


def check_host(name: str, *, whose: str) -> str:
    """Return `name` if it is a host's name or address.

    Raises:
        TypeError, ValueError: `name` is neither a name nor an address. The error's text begins with `whose`, which
            names the source of `name`.
    """
    check_str(whose, name)
    if not re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(%\w+)?", name
    ):
        raise ValueError(
            f"{whose} must be a host's name or address, without scheme, port or path, not {name!r}"
        )
    return name


def in_url(host: str) -> str:
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def lost(url: str, why: object) -> TunnelError:
    return TunnelError(f"the tunnel at {url} has ended: {why}")


@final
class FixedURL(Tunnel):
    """A URL that already leads to the endpoint, such as the URL of nginx, caddy, a load balancer, or your own tunnel.

    The proxy needs a fixed port, so choose the endpoint's port: `serve_endpoint(port=8080, tunnel=FixedURL(…))`.

    Args:
        url: the URL for agents, such as `https://agents.example/triocept`. The proxy must remove the path of this URL
            (`/triocept`) from the paths of requests.

    Raises:
        ValueError: agents cannot use the URL as their base URL.
    """

    def __init__(self, url: str) -> None:
        self.url: str = check_url(url, whose="FixedURL")

    @asynccontextmanager
    async def open(self, port: int, **_: Any) -> AsyncIterator[str]:
        """Yield the URL. No resources are opened."""
        yield self.url

    def __repr__(self) -> str:
        return f"FixedURL({self.url!r})"
