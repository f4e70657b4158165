"""What tasks wait at until something has happened.

trio's `ParkingLot` with less in it: every call has two of these, and making a lot costs as much as using it.
"""

from __future__ import annotations

from typing import Any, final

import trio

__all__ = ["Bell"]


@final
class Bell:
    """Tasks wait at it, and all go on when it rings."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[trio.lowlevel.Task] = []

    async def wait(self) -> None:
        """Wait until it rings.

        Cancellation: immediate, unless it has rung.
        """
        task = trio.lowlevel.current_task()
        self._tasks.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def ring(self) -> None:
        """Let all go on that wait now."""
        if self._tasks:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                trio.lowlevel.reschedule(task)
