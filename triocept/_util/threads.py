"""Run functions in threads."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeVar, TypeVarTuple, Unpack

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(
    function: Callable[[Unpack[Ts]], T],
    *arguments: *Ts,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """Run a function in a thread.

    With a mock clock, call the function directly, because the clock would jump while the thread runs.

    Cancellation: waits for the thread, or abandons it, as `trio.to_thread.run_sync` does.
    """
    if getattr(trio.lowlevel.current_clock(), "autojump_threshold", inf) < inf:
        await trio.lowlevel.checkpoint()
        return function(*arguments)
    return await trio.to_thread.run_sync(
        function, *arguments, abandon_on_cancel=abandon_on_cancel, limiter=limiter
    )
