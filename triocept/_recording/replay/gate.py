"""The order of a replay, kept while it runs: what has happened, and who waits for it.

Rules:

1. An answer waits for what its record says, and then a moment, so that the agent has made something of that.
2. It waits as long as something happens, and a while longer; then it is given all the same: the run is another one than
   that which was recorded, and its trace says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from ..._rollout.answer import Condition
from .order import Happening, Order
from .record import Recorded

MOMENT = 0.1
"""Seconds that an agent has to tell one of its conversations what another one's answer was (12 of 12 runs of Claude
Code 2.1.332 with two sub-agents)."""
PATIENCE = 10.0
"""Seconds without any news, beside twice what it took when it was recorded, after which an answer waits no longer."""


class Gate:
    """What has happened of a record in one live rollout."""

    def __init__(self, order: Order, turns: tuple[Recorded, ...]) -> None:
        self._order = order
        self._turns = turns
        self._times: dict[Happening, float] = {}
        self._gone: set[int] = set()
        """Turns that will not come any more."""
        self._news = Condition()
        self._latest = 0.0

    def note(self, number: int, *, settled: bool) -> None:
        """A call came that this turn answers, or it has been answered."""
        self._latest = self._times[Happening(number, settled)] = trio.current_time()
        self._news.notify_all()

    def drop(self, numbers: Iterable[int]) -> None:
        """These turns will not come: what follows a fork."""
        self._gone |= set(numbers)
        self._news.notify_all()

    async def wait(self, turn: Recorded) -> list[str]:
        """Until the answer of this turn may be given.

        Returns:
            The ids of the turns that it has waited for, and that did not come.

        Cancellation: immediate.
        """
        before = self._order.before(turn.number)
        while (missing := self._missing(before)) and (left := self._patience(turn, missing)) > 0:
            with trio.move_on_after(left):
                await self._news.wait()
        ready = max((self._times.get(each, 0.0) for each in before if each.settled), default=0.0) + MOMENT
        await trio.sleep_until(ready)
        return [self._turns[each.number].turn.id for each in missing]

    def _missing(self, before: Iterable[Happening]) -> list[Happening]:
        return [each for each in before if each not in self._times and each.number not in self._gone]

    def _patience(self, turn: Recorded, missing: Iterable[Happening]) -> float:
        """Seconds that are left."""
        took = max(self._turns[each.number].settled - turn.arrived for each in missing)
        return self._latest + PATIENCE + 2 * max(0.0, took) - trio.current_time()
