"""The two ways of a model call through the server: parsed by our own HTTP/1.1, or by hypercorn and ASGI."""

from collections.abc import Iterator
from contextlib import contextmanager

OWN = "own HTTP/1.1"
WAYS = (OWN, "through ASGI")


@contextmanager
def way(name: str) -> Iterator[None]:
    """Let endpoints that are opened in this block take model calls this way."""
    from triocept._server.serve import OWN_HTTP1  # it takes half a second to load, and few tests need it

    token = OWN_HTTP1.set(name == OWN)
    try:
        yield
    finally:
        OWN_HTTP1.reset(token)
