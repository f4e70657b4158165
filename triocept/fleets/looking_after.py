"""Communication with a remote worker until it has ended, and timeouts that tolerate a blocked loop of this program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

LOOKS = 10
"""Number of waits without the event after which `happens` returns False."""


async def happens(event: trio.Event, within: float) -> bool:
    """Wait for `event`, which an answer of a worker sets; return False if it was not set in `within` seconds.

    A program whose loop is blocked (by a trainer's step) cannot read the answer that waits in its socket. So the time
    is divided into `LOOKS` waits, and a long block of the loop counts as only one of them.
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
    """Run `serve`, which communicates with a worker, while the body runs, and then while `end` ends the worker.

    `serve` is cancelled only when `end` has returned, even if the caller was cancelled. `end` is shielded from
    cancellation, so it must limit its own time.
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
