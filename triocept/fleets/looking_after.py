"""Service of a remote worker until it has ended, and waits for it that do not blame it for this program's delays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

LOOKS = 10
"""Number of waits for an event before it counts as missing."""


async def happens(event: trio.Event, within: float) -> bool:
    """Wait for an event of a worker; return False if it did not happen within some seconds.

    Only seconds in which this program's own loop ran count: a program that computes between two waits (a trainer's
    step) cannot read the answer in its socket. So a long gap counts as one wait, and `LOOKS` waits must fail.
    """
    for _ in range(LOOKS):
        with trio.move_on_after(within / LOOKS):
            await event.wait()
            return True
    return event.is_set()


@asynccontextmanager
async def looked_after(
    serve: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Serve a worker while the body runs and while the worker ends, also after a cancellation.

    `serve` runs until the worker is gone, or `end` has returned; `end` is shielded, so it must be bounded.
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
