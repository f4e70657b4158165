"""Limit the concurrent calls of an upstream. Waiting rollouts are served in rotation.

Rules:

1. If a slot is free, a call takes it immediately. A released slot goes to the next of the waiting rollouts, in
   rotation, and within this rollout to the call that has waited longest.
2. A call that is cancelled while waiting takes no slot.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Limiter:
    """Slots for the concurrent calls of an upstream. `limit` is the number of slots, or None for any number."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.held: int = 0
        """The number of slots that are taken."""
        self._waiting: OrderedDict[str, deque[trio.Event]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def slot(self, rollout: str) -> AsyncIterator[None]:
        """Wait for a free slot, and occupy the slot while the body of the block runs.

        Cancellation: a call that is cancelled while it waits takes no slot.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._limit is None or self.held < self._limit:
            self.held += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            granted = trio.Event()
            self._waiting.setdefault(rollout, deque()).append(granted)
            try:
                await granted.wait()
            except trio.Cancelled:
                if granted.is_set():
                    self._give()
                else:
                    self._waiting[rollout].remove(granted)
                    if not self._waiting[rollout]:
                        del self._waiting[rollout]
                raise
        try:
            yield
        finally:
            self._give()

    def _give(self) -> None:
        """Pass a released slot to the waiting call that is next in the rotation.

        If no call waits, the slot becomes free.
        """
        if not self._waiting:
            self.held -= 1
            return
        rollout, queue = self._waiting.popitem(last=False)
        granted = queue.popleft()
        if queue:
            self._waiting[rollout] = queue  # at the end of the dict: other rollouts come first
        granted.set()
