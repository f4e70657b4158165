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

from heapq import heappop, heappush
from itertools import count
from typing import final

import trio

from .engine import FleetWorker


class NoWorkers(Exception):
    """Raised when no worker is left; `__cause__` is the reason of the last loss."""


@final
class Seat:
    """Slot of one call, from the first attempt to the last. Made by `Slots.take` only."""

    def __init__(self, priority: int) -> None:
        self.call: tuple[object, int] = (None, -1)
        """The map of the call, and the number of the task, once they are known."""
        self.lost_with: tuple[tuple[object, int], ...] = ()
        """The calls in the worker that was lost last, this one among them."""
        self._priority = priority
        self._desk: _Desk | None = None
        self._case: _Case | None = None
        self._waits = True
        self._news = trio.Event()

    @property
    def worker(self) -> FleetWorker:
        """Worker of the slot; after a loss, the lost worker."""
        assert self._desk is not None
        return self._desk.worker


class _Desk:
    """A worker, and the calls in it."""

    def __init__(self, worker: FleetWorker) -> None:
        self.worker = worker
        self.seats: dict[Seat, None] = {}
        self.case: _Case | None = None
        """The case that the calls in it are suspects of. No other call gets a slot then."""
        self.retires = False
        self.buried = False
        self.answered = False
        """True if a call has ended in the worker."""

    @property
    def is_open(self) -> bool:
        """True if the worker takes calls."""
        return not self.retires and not self.buried and self.worker.alive


class _Case:
    """The calls that were in a worker when it died: one of them may have ended it."""

    def __init__(self, suspects: list[Seat]) -> None:
        self.rest = suspects
        """The calls that have not run again."""
        self.desks: list[_Desk] = []
        """The workers that run suspects of this case now."""
        for seat in suspects:
            seat._case = self

    @property
    def is_ready(self) -> bool:
        """True if calls wait for a test; a call that has just been lost with its worker may not wait yet."""
        return bool(self.rest) and all(seat._waits for seat in self.rest)

    def take(self, parts: int) -> list[Seat]:
        """Take the calls to run now, when the rest is split into `parts`."""
        size = -(-len(self.rest) // parts)
        taken, self.rest = self.rest[:size], self.rest[size:]
        for seat in taken:
            seat._case = None
        return taken


@final
class Slots:
    """The slots of a fleet.

    Args:
        per_worker: number of slots of each worker.
        coming: number of workers that are being started.
    """

    def __init__(self, per_worker: int, coming: int) -> None:
        self._per_worker = per_worker
        self._coming = coming
        self._desks: dict[FleetWorker, _Desk] = {}
        self._cases: list[_Case] = []
        self._returned = trio.Event()
        self._waiting: list[tuple[int, int, Seat]] = []
        self._numbers = count()
        self._why: BaseException | None = None

    @property
    def total(self) -> int:
        """Number of slots, taken or free, including workers that are being started."""
        return max(1, len(self.workers) + self._coming) * self._per_worker

    @property
    def workers(self) -> list[FleetWorker]:
        """The living workers that do not retire."""
        return [desk.worker for desk in self._desks.values() if not desk.retires]

    async def take(self, priority: int) -> Seat:
        """Wait for a slot, to be given back; a higher priority comes first.

        Raises:
            NoWorkers: there is no worker, and there will be none.
        """
        seat = Seat(priority)
        self._queue(seat, priority)
        self.deal()
        await self._seated(seat)
        return seat

    async def retake(self, seat: Seat) -> None:
        """Wait for another slot for a call whose slot was `lost` or given back. Raises as `take`."""
        seat._news = trio.Event()
        seat._waits = True
        if seat._case is None:
            self._queue(seat, seat._priority + 1)  # it has waited long enough
        self.deal()
        await self._seated(seat)

    def _queue(self, seat: Seat, priority: int) -> None:
        heappush(self._waiting, (-priority, next(self._numbers), seat))

    async def _seated(self, seat: Seat) -> None:
        try:
            await seat._news.wait()
        except trio.Cancelled:
            seat._waits = False
            self.give_back(seat)
            raise
        if seat._desk is None:
            self.give_back(seat)
            raise NoWorkers from self._why

    def lost(self, seat: Seat, *, worker_lives: bool) -> None:
        """Mark a call as lost with its worker, or only its answer. Call `retake` or `give_back` next."""
        desk = seat._desk
        assert desk is not None
        if not worker_lives:
            self._bury(desk)
            return
        self._leave(seat)
        seat._desk, seat.lost_with = desk, (seat.call,)
        self._cases.append(_Case([seat]))

    def end_worker_of(self, seat: Seat) -> None:
        """Give the worker of a call no more calls, because it is killed for this call: the others are no suspects."""
        desk = seat._desk
        assert desk is not None
        if desk.buried:
            return
        desk.buried = True
        if desk.case is not None:
            self._close(desk.case)
        for other in desk.seats:
            other.lost_with = ()

    def _bury(self, desk: _Desk) -> None:
        """Open a case for the calls in a dead worker, and free the other calls of their old case."""
        if desk.buried:
            return
        desk.buried = True
        if desk.case is not None:
            self._close(desk.case)
        suspects = list(desk.seats)
        lost_with = tuple([seat.call for seat in suspects])
        for seat in suspects:
            seat.lost_with = lost_with
        self._cases.append(_Case(suspects))

    def _close(self, case: _Case) -> None:
        """Free the calls of a case of suspicion."""
        self._cases.remove(case)
        for desk in case.desks:
            desk.case = None
        for seat in case.rest:
            seat._case = None
            self._queue(seat, seat._priority + 1)

    def deal(self) -> None:
        """Give free slots to waiting calls, or end their wait if no worker will come."""
        held = self._test_suspects() if self._cases else 0
        if not self._waiting:
            return
        open_desks = [desk for desk in self._desks.values() if desk.case is None and desk.is_open]
        if held:  # these workers are being emptied
            open_desks = sorted(open_desks, key=lambda desk: len(desk.seats))[held:]
        while self._waiting:
            desk = min(open_desks, key=lambda desk: len(desk.seats), default=None)
            if desk is None and not self._none_will_come:
                return
            if desk is not None and len(desk.seats) >= self._per_worker:
                return
            seat = heappop(self._waiting)[2]
            if seat._waits:
                self._seat(seat, desk)

    @property
    def _none_will_come(self) -> bool:
        """True if no worker is there and none is being started; a worker that has just died may be replaced."""
        return not self._coming and all(desk.retires for desk in self._desks.values())

    def _test_suspects(self) -> int:
        """Run suspects in workers of their own; return how many workers are to be emptied for them."""
        self._cases = [case for case in self._cases if case.rest or case.desks]
        ready = [case for case in self._cases if case.is_ready]
        fresh_wait = any(seat._waits for _, _, seat in self._waiting)
        for case in ready:
            idle = [
                desk for desk in self._desks.values() if desk.is_open and not desk.seats and not desk.case
            ]
            parts = 1 + len(idle) + self._coming
            if fresh_wait:
                idle, parts = idle[: not case.desks], 2
            for desk in idle[: len(case.rest)]:
                desk.case = case
                case.desks.append(desk)
                for seat in case.take(max(2, parts)):
                    self._seat(seat, desk)
                parts -= 1
            if not case.desks and self._none_will_come:
                for seat in case.take(1):
                    self._seat(seat, None)
        return sum(not case.desks for case in ready)

    def _seat(self, seat: Seat, desk: _Desk | None) -> None:
        """Give a call its slot; None: there is no slot."""
        seat._waits = False
        seat._desk = desk
        if desk is not None:
            desk.seats[seat] = None
        seat._news.set()

    def give_back(self, seat: Seat) -> None:
        """Free the slot of a call that has ended, or no longer waits."""
        self._leave(seat)
        self.deal()

    def _leave(self, seat: Seat) -> None:
        desk, seat._desk = seat._desk, None
        if seat._case is not None:
            seat._case.rest.remove(seat)
            seat._case = None
        if desk is None or seat not in desk.seats:
            return
        del desk.seats[seat]
        desk.answered = True
        if desk.case is not None and not desk.seats:
            desk.case.desks.remove(desk)
            desk.case = None
        self._returned.set()
        self._returned = trio.Event()

    def add(self, worker: FleetWorker) -> None:
        """Add a worker that is ready."""
        self._coming -= 1
        self._desks[worker] = _Desk(worker)
        self.deal()

    def retire(self, worker: FleetWorker) -> None:
        """Give a worker no more calls; its running calls continue."""
        self._desks[worker].retires = True
        self.deal()

    async def wait_idle(self, worker: FleetWorker) -> None:
        """Wait until the last call of a retiring worker has ended."""
        while self._desks[worker].seats:
            await self._returned.wait()

    def remove(self, worker: FleetWorker) -> bool:
        """Remove a dead worker, which may be replaced; return True if any call ran in it."""
        self._coming += 1
        desk = self._desks.pop(worker)
        was_used = desk.answered or bool(desk.seats)
        self._bury(desk)
        self.deal()
        return was_used

    def expect(self) -> None:
        """Count one more worker that is being started."""
        self._coming += 1

    def give_up(self, why: BaseException | None = None) -> None:
        """Count one worker less that is being started."""
        self._coming -= 1
        self._why = why or self._why
        self.deal()
