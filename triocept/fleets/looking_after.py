"""A worker that runs elsewhere, looked after until it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

__all__ = ["looked_after"]


@asynccontextmanager
async def looked_after(
    serve: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Serve a worker while the body runs and while the worker ends, whoever is cancelled.

    Args:
        serve: speaks with it, until it is gone; cancelled when `end` has returned.
        end: ends it; bounded, and shielded.
    """
    service = trio.CancelScope(shield=True)

    async def run() -> None:
        with service:
            await serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield
        finally:
            try:
                with trio.CancelScope(shield=True):
                    await end()
            finally:
                service.cancel()
