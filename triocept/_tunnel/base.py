"""The contract of a tunnel, the rules for its URL, and the simplest tunnel: an existing proxy.

Rules:

1. A tunnel receives a port that listens already. It never chooses the endpoint's port.
2. A tunnel object holds settings only. Its resources live between entering and leaving `open`; many may be open
   at once.
3. The death of a tunnel is an error: `open` cancels its body, and raises `TunnelError`.
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
    """A way to make the endpoint's port reachable from elsewhere.

    Subclass it for a tunnel of your own::

        class MyTunnel(Tunnel):
            @asynccontextmanager
            async def open(self, port, **_):
                async with my_service.expose(port) as name:
                    yield f"https://{name}.example"
    """

    dialable: bool = True
    """True if this machine can call the URL itself, and so check whether it leads here."""

    @abstractmethod
    def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AbstractAsyncContextManager[str]:
        """Open the tunnel: return an async context manager that yields the URL, without a trailing slash.

        Args:
            port: the endpoint's live port.
            host: the host on which the endpoint is reachable from this machine.
            scheme: the endpoint's scheme.
            previous: the URL that this endpoint's tunnel had before it died; a tunnel that can reopens it.

        Raises:
            TunnelError: on entering: the tunnel cannot be opened. On leaving, with the body cancelled: it has died.

        Closing: at once, or within a bounded time; no part of it lives afterwards, also when cancelled.
        """

    async def revive(self, url: str) -> bool:
        """Restore a URL that has stopped answering, without giving it up; return True if it works again.

        After False, the tunnel is closed, and opened anew.
        """
        return False


def check_url(url: str, *, whose: str) -> str:
    """Return the URL without a trailing slash, if it can be an agent's base URL.

    Raises:
        ValueError: the URL is not usable; the text names its source, `whose`.
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
        raise ValueError(f"{whose}: a query, a fragment or a password cannot stand in an agent's base URL")
    return url.rstrip("/")


def usable(url: str, *, whose: str) -> str:
    """Return a tunnel's URL, as `check_url` does; raise TunnelError if it is not usable."""
    try:
        return check_url(url, whose=whose)
    except ValueError as exc:
        raise TunnelError(str(exc)) from exc


def is_here(url: str) -> bool:
    """Return True if a URL's host is this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return False


def check_host(name: str, *, whose: str) -> str:
    """Return a host's name or address.

    Raises:
        TypeError, ValueError: it is not a name or an address.
    """
    check_str(whose, name)
    if not re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(%\w+)?", name
    ):
        raise ValueError(f"{whose}: a host's name or address, without scheme, port or path, not {name!r}")
    return name


def in_url(host: str) -> str:
    """Return the host in the form for a URL: an IPv6 address in brackets."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def lost(url: str, why: object) -> TunnelError:
    """Return the error of a tunnel that has died."""
    return TunnelError(f"the tunnel at {url} has ended: {why}")


@final
class FixedURL(Tunnel):
    """A URL that leads to the endpoint by your own means: nginx, caddy, a load balancer, a tunnel started by hand.

    The proxy needs a fixed port, so give the endpoint one: `serve_endpoint(port=8080, tunnel=FixedURL(…))`.

    Args:
        url: the URL for agents, `https://agents.example/triocept`; the proxy must remove its path.

    Raises:
        ValueError: the URL cannot be an agent's base URL.
    """

    def __init__(self, url: str) -> None:
        self.url: str = check_url(url, whose="FixedURL")

    @asynccontextmanager
    async def open(self, port: int, **_: Any) -> AsyncIterator[str]:
        """Yield the URL. No tunnel is opened."""
        yield self.url

    def __repr__(self) -> str:
        return f"FixedURL({self.url!r})"
