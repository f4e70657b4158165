"""A proxy that is there already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, final

from .base import Tunnel, check_url

__all__ = ["FixedURL"]


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
