"""What tasks wait for until something has happened.

trio's own `Condition` without its lock (between a look and a wait nothing runs here), and `ParkingLot` with less in it:
every call has two of these, and making a lot costs as much as using it.
"""

from __future__ import annotations

from typing import Any, final

import trio

__all__ = ["Condition"]


@final
class Condition:
    """Tasks wait for it, and all go on when it is notified."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[trio.lowlevel.Task] = []

    async def wait(self) -> None:
        """Wait until it is notified.

        Cancellation: immediate, unless it has been.
        """
        task = trio.lowlevel.current_task()
        self._tasks.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def notify_all(self) -> None:
        """Let all go on that wait now."""
        if self._tasks:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                trio.lowlevel.reschedule(task)
