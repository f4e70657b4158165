"""Run the code that communicates with a remote worker, and wait for the worker's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

LOOKS = 10
"""Number of equal waits into which `happens` divides its time limit."""


async def happens(event: trio.Event, within: float) -> bool:
    """Wait for `event`, which is set when a worker answers; return False if it is not set after `within` seconds.

    While this program's loop is blocked (by a trainer's step), it cannot read an answer that has already reached its
    socket. So the time is divided into `LOOKS` waits. A long blocked period uses up only one of these waits.
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
    """Run `serve`, which communicates with a worker, while the body runs. Then run `end` while `serve` continues.

    `end` ends the worker. `serve` is cancelled only after `end` has returned, even if the caller was cancelled. `end`
    is shielded from cancellation, so it must limit its own time.
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
