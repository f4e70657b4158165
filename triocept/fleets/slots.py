"""Assignment of calls to workers: free slots, waiting calls, and the calls that may have ended a worker.

Rules:

1. A waiting call gets a slot by priority, then in the order of requests. The slot is on the worker with the most free
   slots.
2. When a worker dies, the calls in it are suspects: a `_Case`. One half of them runs again, on a worker that runs
   nothing else. If that worker dies, the calls in it are the suspects of a new case, and the rest of the old case is
   free. If it does not die, one half of the rest is next. So the call that ends workers is soon alone in one.
3. While a case has no worker, the emptiest worker gets no fresh calls. Idle workers test more of a case.
4. While no worker lives and none is being started, waiting calls end with `NoWorkers`.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from itertools import count
from typing import final

import trio

from .engine import FleetWorker


class NoWorkers(Exception):
    """Raised when no worker is left; `__cause__` is the reason of the last loss."""


@final
class Slot:
    """Slot of one call, from the first attempt to the last. Made by `Slots.take` only."""

    def __init__(self, priority: int, number: int) -> None:
        self.number = number
        self.call: tuple[object, int] = (None, -1)
        """The map of the call, and the number of the task, once they are known."""
        self.lost_with: tuple[tuple[object, int], ...] = ()
        """The calls in the worker that was lost last, this one among them."""
        self.overdue = False
        """True if the worker is killed, and the timeout of this call had passed."""
        self._priority = priority
        self._state: _WorkerState | None = None
        self._case: _Case | None = None
        self._waits = True
        self._decided = trio.Event()

    @property
    def worker(self) -> FleetWorker:
        """Worker of the slot; after a loss, the lost worker."""
        assert self._state is not None
        return self._state.worker


class _WorkerState:
    def __init__(self, worker: FleetWorker) -> None:
        self.worker = worker
        self.slots: dict[Slot, None] = {}
        self.case: _Case | None = None
        """The case that the calls in it are suspects of. No other call gets a slot then."""
        self.retires = False
        self.dead = False
        self.answered = False
        """True if a call has ended in the worker."""

    @property
    def takes_calls(self) -> bool:
        return not self.retires and not self.dead and self.worker.alive


class _Case:
    """The calls that were in a worker when it died: one of them may have ended it."""

    def __init__(self, suspects: list[Slot]) -> None:
        self.rest = suspects
        """The calls that have not run again."""
        self.states: list[_WorkerState] = []
        """The workers that run suspects of this case now."""
        for slot in suspects:
            slot._case = self

    @property
    def is_ready(self) -> bool:
        """True if calls wait for a test; a call that has just been lost with its worker may not wait yet."""
        return bool(self.rest) and all(slot._waits for slot in self.rest)

    def take(self, parts: int) -> list[Slot]:
        """Take the calls to run now, when the rest is split into `parts`."""
        size = -(-len(self.rest) // parts)
        taken, self.rest = self.rest[:size], self.rest[size:]
        for slot in taken:
            slot._case = None
        return taken


@final
class Slots:
    """The slots of a fleet: `per_worker` of each, with `coming` workers that are being started."""

    def __init__(self, per_worker: int, coming: int) -> None:
        self._per_worker = per_worker
        self._coming = coming
        self._states: dict[FleetWorker, _WorkerState] = {}
        self._cases: list[_Case] = []
        self._returned = trio.Event()
        self._waiting: list[tuple[int, int, Slot]] = []
        self._numbers = count(1)
        self._why: BaseException | None = None

    @property
    def total(self) -> int:
        """Number of slots, taken or free, including workers that are being started."""
        return max(1, len(self.workers) + self._coming) * self._per_worker

    @property
    def workers(self) -> list[FleetWorker]:
        """The living workers that do not retire."""
        return [state.worker for state in self._states.values() if not state.retires]

    async def take(self, priority: int) -> Slot:
        """Wait for a slot, to be given back; a higher priority comes first. Raise NoWorkers if there will be none."""
        slot = Slot(priority, next(self._numbers))
        self._queue(slot, priority)
        self.assign()
        await self._wait_for(slot)
        return slot

    async def retake(self, slot: Slot) -> None:
        """Wait for another slot for a call whose slot was `lost` or given back. Raises as `take`."""
        slot._decided = trio.Event()
        slot._waits = True
        if slot._case is None:
            self._queue(slot, slot._priority + 1)  # it has waited long enough
        self.assign()
        await self._wait_for(slot)

    def _queue(self, slot: Slot, priority: int) -> None:
        heappush(self._waiting, (-priority, next(self._numbers), slot))

    async def _wait_for(self, slot: Slot) -> None:
        try:
            await slot._decided.wait()
        except trio.Cancelled:
            slot._waits = False
            self.give_back(slot)
            raise
        if slot._state is None:
            self.give_back(slot)
            raise NoWorkers from self._why

    def lost(self, slot: Slot, *, worker_lives: bool) -> None:
        """Mark a call as lost with its worker, or only its answer. Call `retake` or `give_back` next."""
        state = slot._state
        assert state is not None
        if not worker_lives:
            self._open_case(state)
            return
        self._leave(slot)
        slot._state, slot.lost_with = state, (slot.call,)
        self._cases.append(_Case([slot]))

    def end_worker_of(self, slot: Slot, overdue: Collection[int]) -> None:
        """Give no more calls to the worker of a call that it is killed for; the other calls are no suspects.

        The calls in the slots of the numbers `overdue` are over their timeouts.
        """
        assert slot._state is not None
        for other in self._mark_dead(slot._state):
            other.lost_with = ()
            other.overdue = other.number in overdue

    def _open_case(self, state: _WorkerState) -> None:
        """Open a case for the calls in a worker that has died."""
        if not state.dead:
            suspects = self._mark_dead(state)
            calls = tuple([slot.call for slot in suspects])
            for slot in suspects:
                slot.lost_with = calls
            self._cases.append(_Case(suspects))

    def _mark_dead(self, state: _WorkerState) -> list[Slot]:
        """Give a worker no more calls, and free the other calls of its case; return the calls in it."""
        if state.dead:
            return []
        state.dead = True
        if (case := state.case) is not None:
            self._cases.remove(case)
            for tester in case.states:
                tester.case = None
            for slot in case.rest:
                slot._case = None
                self._queue(slot, slot._priority + 1)
        return list(state.slots)

    def assign(self) -> None:
        """Give free slots to waiting calls, or end their wait if no worker will come."""
        held = self._test_suspects() if self._cases else 0
        if not self._waiting:
            return
        open_states = [state for state in self._states.values() if state.case is None and state.takes_calls]
        if held:  # these workers are being emptied
            open_states = sorted(open_states, key=lambda state: len(state.slots))[held:]
        while self._waiting:
            state = min(open_states, key=lambda state: len(state.slots), default=None)
            if state is None and not self._none_will_come:
                return
            if state is not None and len(state.slots) >= self._per_worker:
                return
            slot = heappop(self._waiting)[2]
            if slot._waits:
                self._give(slot, state)

    @property
    def _none_will_come(self) -> bool:
        """True if no worker is there and none is being started; a worker that has just died may be replaced."""
        return not self._coming and all(state.retires for state in self._states.values())

    def _test_suspects(self) -> int:
        """Run suspects in workers of their own; return how many workers are to be emptied for them."""
        self._cases = [case for case in self._cases if case.rest or case.states]
        ready = [case for case in self._cases if case.is_ready]
        fresh_wait = any(slot._waits for _, _, slot in self._waiting)
        for case in ready:
            idle = [
                state
                for state in self._states.values()
                if state.takes_calls and not state.slots and not state.case
            ]
            parts = 1 + len(idle) + self._coming
            if fresh_wait:
                idle, parts = idle[: not case.states], 2
            for state in idle[: len(case.rest)]:
                state.case = case
                case.states.append(state)
                for slot in case.take(max(2, parts)):
                    self._give(slot, state)
                parts -= 1
            if not case.states and self._none_will_come:
                for slot in case.take(1):
                    self._give(slot, None)
        return sum(not case.states for case in ready)

    def _give(self, slot: Slot, state: _WorkerState | None) -> None:
        """Give a call its slot; None if there is no slot."""
        slot._waits = slot.overdue = False
        slot._state = state
        if state is not None:
            state.slots[slot] = None
        slot._decided.set()

    def give_back(self, slot: Slot) -> None:
        """Free the slot of a call that has ended, or no longer waits."""
        self._leave(slot)
        self.assign()

    def _leave(self, slot: Slot) -> None:
        state, slot._state = slot._state, None
        if slot._case is not None:
            slot._case.rest.remove(slot)
            slot._case = None
        if state is None or slot not in state.slots:
            return
        del state.slots[slot]
        state.answered = True
        if state.case is not None and not state.slots:
            state.case.states.remove(state)
            state.case = None
        self._returned.set()
        self._returned = trio.Event()

    def add(self, worker: FleetWorker) -> None:
        self._coming -= 1
        self._states[worker] = _WorkerState(worker)
        self.assign()

    def retire(self, worker: FleetWorker) -> None:
        """Give a worker no more calls; its running calls continue."""
        self._states[worker].retires = True
        self.assign()

    async def wait_idle(self, worker: FleetWorker) -> None:
        """Wait until the last call of a retiring worker has ended."""
        while self._states[worker].slots:
            await self._returned.wait()

    def remove(self, worker: FleetWorker) -> bool:
        """Remove a dead worker, which may be replaced; return True if any call ran in it."""
        self._coming += 1
        state = self._states.pop(worker)
        was_used = state.answered or bool(state.slots)
        self._open_case(state)
        self.assign()
        return was_used

    def expect(self) -> None:
        self._coming += 1

    def give_up(self, why: BaseException | None = None) -> None:
        """Count one worker less that is being started."""
        self._coming -= 1
        self._why = why or self._why
        self.assign()
