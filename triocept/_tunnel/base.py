"""The contract of a tunnel, what its URL must be, and the simplest: a proxy that is there already.

Rules:

1. A tunnel is told a port that listens already. It never chooses one for us.
2. A tunnel object holds settings only. What runs is between entering and leaving `open`; many may be open at once.
3. Its death is an error: `open` cancels its body, and `TunnelError` leaves it.
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
    """What makes the endpoint's port reachable from elsewhere.

    Subclass it for a tunnel of your own::

        class MyTunnel(Tunnel):
            @asynccontextmanager
            async def open(self, port, **_):
                async with my_service.expose(port) as name:
                    yield f"https://{name}.example"
    """

    dialable: bool = True
    """Whether this machine can call the URL itself, and so see whether it leads here."""

    @abstractmethod
    def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AbstractAsyncContextManager[str]:
        """Open it: an async context manager that gives the URL, without a path's trailing slash.

        Args:
            port: the endpoint's live port.
            host: where the endpoint can be dialled on this machine.
            scheme: what the endpoint speaks.
            previous: the URL that this endpoint's tunnel had before it died; who can, gets the same one again.

        Raises:
            TunnelError: on entering: it cannot be had. On leaving, with the body cancelled: it has died.

        Closing: at once, or within a bounded time; nothing of it lives afterwards, also when cancelled.
        """

    async def revive(self, url: str) -> bool:
        """The URL has stopped to answer: bring it back without giving it up. False where that cannot be done: then the
        tunnel is closed, and opened anew.
        """
        return False


def check_url(url: str, *, whose: str) -> str:
    """The URL without a trailing slash, if an agent can be pointed at it.

    Raises:
        ValueError: it cannot; the text names `whose` it is.
        TypeError: it is no str.
    """
    check_str(whose, url)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{whose}: not a URL that begins with http:// or https://, but {url!r}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{whose}: a query, a fragment or a password cannot stand in an agent's base URL")
    return url.rstrip("/")


def usable(url: str, *, whose: str) -> str:
    """The same of what a tunnel has given; TunnelError, if it cannot."""
    try:
        return check_url(url, whose=whose)
    except ValueError as exc:
        raise TunnelError(str(exc)) from exc


def is_here(url: str) -> bool:
    """Whether a URL is one of this machine's own."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return False


def check_host(name: str, *, whose: str) -> str:
    """A host's name or address.

    Raises:
        TypeError, ValueError: it is none.
    """
    check_str(whose, name)
    if not re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(%\w+)?", name
    ):
        raise ValueError(f"{whose}: a host's name or address, without scheme, port or path, not {name!r}")
    return name


def in_url(host: str) -> str:
    """The host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def lost(url: str, why: object) -> TunnelError:
    """The error of a tunnel that has died."""
    return TunnelError(f"the tunnel at {url} has died: {why}")


@final
class FixedURL(Tunnel):
    """A URL that leads to the endpoint by means of your own: nginx, caddy, a load balancer, a tunnel started by hand.

    Its other side needs to know the port, so give the endpoint one: `serve_endpoint(port=8080, tunnel=FixedURL(…))`.

    Args:
        url: what agents are given, `https://agents.example/triocept`; the proxy must take its path off.

    Raises:
        ValueError: no such URL can be given to an agent.
    """

    def __init__(self, url: str) -> None:
        self.url: str = check_url(url, whose="FixedURL")

    @asynccontextmanager
    async def open(self, port: int, **_: Any) -> AsyncIterator[str]:
        """Nothing is opened: gives the URL."""
        yield self.url

    def __repr__(self) -> str:
        return f"FixedURL({self.url!r})"
