"""What tasks of a random walk do: importable in a worker within moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from tests.fleets.mortal import end_worker


async def do(worker: object, task: dict[str, Any], *, attempt: int) -> int:
    """One task in a worker process."""

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def hang() -> None:
        time.sleep(100)

    return await live(task, attempt, die, hang)


async def do_here(worker: object, task: dict[str, Any], *, attempt: int) -> int:
    """One task in a worker of this program."""

    async def hang() -> None:
        await trio.sleep(1)
        await end_worker()

    return await live(task, attempt, end_worker, hang)


async def live(
    task: dict[str, Any],
    attempt: int,
    die: Callable[[], Awaitable[None]],
    hang: Callable[[], Awaitable[None]],
) -> int:
    seconds, number = random.Random(task["id"]).uniform(0, 0.1), int(task["id"])
    match task["fate"]:
        case "fails":
            raise LookupError(number)
        case "slow":
            await trio.sleep(10 * seconds)
        case "hangs":
            await hang()
        case "dies":
            await die()
        case "dies late":
            await trio.sleep(seconds)
            await die()
        case "dies once":
            note = Path(task["folder"]) / str(number)
            if not note.exists():
                note.touch()
                await die()
    await trio.sleep(seconds)
    return number
