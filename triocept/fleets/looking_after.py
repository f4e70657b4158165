"""A worker that runs elsewhere: its service until it has ended, and waits for it that are fair to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

LOOKS = 10
"""How often an event is looked for before it counts as missing."""


async def happens(event: trio.Event, within: float) -> bool:
    """Wait for an event of a worker; return False if it did not happen within some seconds.

    Only seconds in which this program's own loop ran count: a program that computes between two looks (a trainer's
    step) cannot see the answer that lies in its socket. So a long gap counts as one look, and `LOOKS` must fail.
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
