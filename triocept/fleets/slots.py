"""Assign calls to free slots of workers, and find out which of its calls has ended a dead worker.

Rules:

1. Waiting calls get slots by priority; calls of equal priority get them in the order in which they began to wait. A
   call gets its slot on the worker that runs the fewest calls.
2. When a worker dies, each call in it may have caused the death. These calls are the suspects of a `_Case`. One half of
   the suspects runs again, on a worker that runs nothing else. If that worker dies, this half becomes a new case, and
   the other half is no longer suspected. If the worker survives, one half of the remaining suspects runs next. So a
   call that ends its workers is soon the only call in its worker.
3. If a case needs a worker and no worker is idle, the worker with the fewest calls gets no new calls until it is idle.
   If several workers are idle, each of them runs some suspects of the case.
4. If no worker is alive and none is being started, waiting calls raise `NoWorkers`.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from itertools import count
from typing import final

import trio

from .engine import FleetWorker


class NoWorkers(Exception):
    """A call waits for a slot, but no worker is alive.

    `__cause__` is the error with which the last worker died or failed to start.
    """


@final
class Slot:
    """Slot of one call on a worker, used from the call's first attempt to its last. Made by `Slots.take` only."""

    def __init__(self, priority: int, number: int) -> None:
        self.number = number
        self.call: tuple[object, int] = (None, -1)
        """The map of the call, and the number of its task; `(None, -1)` as long as the task has not been read."""
        self.lost_with: tuple[tuple[object, int], ...] = ()
        """All calls that ran in the last worker that was lost while this call ran in it, including this call."""
        self.overdue = False
        """True if the timeout of this call has passed and its worker is therefore being killed."""
        self._priority = priority
        self._state: _WorkerState | None = None
        self._case: _Case | None = None
        self._waits = True
        self._decided = trio.Event()

    @property
    def worker(self) -> FleetWorker:
        """Worker on which the call has its slot.

        If the worker is lost, the value changes only when `retake` returns.
        """
        assert self._state is not None
        return self._state.worker


class _WorkerState:
    def __init__(self, worker: FleetWorker) -> None:
        self.worker = worker
        self.slots: dict[Slot, None] = {}
        self.case: _Case | None = None
        """The case whose suspects run on this worker, or None. While it is set, the worker gets no other calls."""
        self.retires = False
        self.dead = False
        self.answered = False
        """True if at least one call has already ended in the worker."""

    @property
    def takes_calls(self) -> bool:
        return not self.retires and not self.dead and self.worker.alive


class _Case:
    """The calls that ran in a worker when it died. Each of them may have caused the death, so they are suspects."""

    def __init__(self, suspects: list[Slot]) -> None:
        self.rest = suspects
        """The suspects that have not been run again yet."""
        self.states: list[_WorkerState] = []
        """The workers that now run suspects of this case."""
        for slot in suspects:
            slot._case = self

    @property
    def is_ready(self) -> bool:
        """True if all suspects in `rest` wait for a slot. Some begin to wait only a moment after the worker's death."""
        return bool(self.rest) and all(slot._waits for slot in self.rest)

    def take(self, parts: int) -> list[Slot]:
        """Divide the suspects in `rest` into `parts` parts of equal size, and remove the first part from `rest`.

        Return this part.
        """
        size = -(-len(self.rest) // parts)
        taken, self.rest = self.rest[:size], self.rest[size:]
        for slot in taken:
            slot._case = None
        return taken


@final
class Slots:
    """The slots of a fleet: each worker has `per_worker` slots.

    `coming` is the number of workers that are being started.
    """

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
        """Number of all slots, in use or free, including the slots of workers that are being started."""
        return max(1, len(self.workers) + self._coming) * self._per_worker

    @property
    def workers(self) -> list[FleetWorker]:
        """The workers that are not retiring. Only these workers get new calls."""
        return [state.worker for state in self._states.values() if not state.retires]

    async def take(self, priority: int) -> Slot:
        """Wait for a slot and return it.

        The caller must pass it to `give_back`. Raise NoWorkers if no worker is left.
        """
        slot = Slot(priority, next(self._numbers))
        self._queue(slot, priority)
        self.assign()
        await self._wait_for(slot)
        return slot

    async def retake(self, slot: Slot) -> None:
        """Wait until `slot` is on a worker again, after it was passed to `lost` or `give_back`.

        For errors see `take`.
        """
        slot._decided = trio.Event()
        slot._waits = True
        if slot._case is None:
            self._queue(slot, slot._priority + 1)  # ahead of new calls, because this call has waited before
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
        """Take `slot` from its worker, because the worker died or its answer was lost.

        If `worker_lives` is True, the worker is alive, and only the answer of the slot's call was lost. The caller must
        call `retake` or `give_back` next.
        """
        state = slot._state
        assert state is not None
        if not worker_lives:
            self._open_case(state)
            return
        self._leave(slot)
        slot._state, slot.lost_with = state, (slot.call,)
        self._cases.append(_Case([slot]))

    def end_worker_of(self, slot: Slot, overdue: Collection[int]) -> None:
        """Give the worker of `slot` no more calls.

        The caller kills this worker afterwards, because the call of `slot` did not end.

        The other calls of the worker are not suspected of having caused its end. `overdue` contains the numbers of the
        slots whose calls have exceeded their timeouts.
        """
        assert slot._state is not None
        for other in self._mark_dead(slot._state):
            other.lost_with = ()
            other.overdue = other.number in overdue

    def _open_case(self, state: _WorkerState) -> None:
        """Create a `_Case` with the calls that ran in a worker that has died."""
        if not state.dead:
            suspects = self._mark_dead(state)
            calls = tuple([slot.call for slot in suspects])
            for slot in suspects:
                slot.lost_with = calls
            self._cases.append(_Case(suspects))

    def _mark_dead(self, state: _WorkerState) -> list[Slot]:
        """Mark a worker as dead, and return the slots of the calls that ran in it.

        If the worker ran suspects of a case, the case's other suspects are no longer suspected.
        """
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
        """Assign free slots to waiting calls. If no worker is left, make these calls raise NoWorkers."""
        held = self._test_suspects() if self._cases else 0
        if not self._waiting:
            return
        open_states = [state for state in self._states.values() if state.case is None and state.takes_calls]
        if held:  # the workers with the fewest calls get no new calls, so that they become free for a test
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
        """True if all workers are retiring (get no new calls), and no worker is being started or will be started."""
        return not self._coming and all(state.retires for state in self._states.values())

    def _test_suspects(self) -> int:
        """Run the suspects of each case on idle workers. Return the number of cases for which no worker was idle."""
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
        """Place `slot` on the worker of `state`, and wake the slot's call.

        If `state` is None, the call raises NoWorkers.
        """
        slot._waits = slot.overdue = False
        slot._state = state
        if state is not None:
            state.slots[slot] = None
        slot._decided.set()

    def give_back(self, slot: Slot) -> None:
        """Free the slot of a call that has ended, or of a call that no longer waits for a slot."""
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
        """Give `worker` no new calls. Its running calls continue."""
        self._states[worker].retires = True
        self.assign()

    async def wait_idle(self, worker: FleetWorker) -> None:
        """Wait until the last call has ended in `worker`, which must be retiring."""
        while self._states[worker].slots:
            await self._returned.wait()

    def remove(self, worker: FleetWorker) -> bool:
        """Remove a worker that has ended; it may be replaced. Return True if any call ever ran in the worker."""
        self._coming += 1
        state = self._states.pop(worker)
        was_used = state.answered or bool(state.slots)
        self._open_case(state)
        self.assign()
        return was_used

    def expect(self) -> None:
        self._coming += 1

    def give_up(self, why: BaseException | None = None) -> None:
        """Record that a worker that was announced by `expect` will not start. `why` is the error, if one occurred."""
        self._coming -= 1
        self._why = why or self._why
        self.assign()
