"""The wait for a job in another event loop: asyncio's, or a trio of the program's own."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import trio

from ._job import Job

__all__ = ["ended", "runs_asyncio"]


async def ended(job: Job[Any], seconds: float) -> bool:
    """Wait for the end of a job, for so many seconds; whether it has ended."""
    wait = _ended_in_trio if trio.lowlevel.in_trio_run() else _ended_in_asyncio
    await wait(job, seconds)
    return job.is_done


async def _ended_in_trio(job: Job[Any], seconds: float) -> None:
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    job.when_done(wake)
    try:
        with trio.move_on_after(seconds):
            await event.wait()
    finally:
        job.forget(wake)


async def _ended_in_asyncio(job: Job[Any], seconds: float) -> None:
    import asyncio  # which is running: others have no use for it, and it takes a while to load

    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(event.set)

    job.when_done(wake)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
    finally:
        job.forget(wake)


def runs_asyncio() -> bool:
    """Whether asyncio runs in this very thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
