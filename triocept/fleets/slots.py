"""Which call runs on which worker: the slots that are free, and who waits for one.

Rules:

1. Who waits gets a slot by priority, then in the order of asking.
2. A slot is that of the worker with the most free ones.
3. While no worker lives and none is on its way, whoever waits is told so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count
from typing import final

import trio

from .engine import FleetWorker

__all__ = ["NoWorkers", "Slots"]


class NoWorkers(Exception):
    """No worker is left; `__cause__` is why the last one is gone."""


class _Waiter:
    def __init__(self) -> None:
        self.told = trio.Event()
        self.worker: FleetWorker | None = None
        self.gone = False


@final
class Slots:
    """Those of a fleet.

    Args:
        per_worker: how many each worker has.
        coming: how many workers are on their way.
    """

    def __init__(self, per_worker: int, coming: int) -> None:
        self._per_worker = per_worker
        self._coming = coming
        self._free: dict[FleetWorker, int] = {}
        self._retiring: dict[FleetWorker, int] = {}
        """How many are free of those that get no more calls."""
        self._returned = trio.Event()
        self._waiting: list[tuple[int, int, _Waiter]] = []
        self._numbers = count()
        self._why: BaseException | None = None

    @property
    def total(self) -> int:
        """How many there are, taken or free."""
        return max(1, len(self._free)) * self._per_worker

    @property
    def workers(self) -> list[FleetWorker]:
        """Those that live."""
        return list(self._free)

    @asynccontextmanager
    async def taken(self, priority: int, had: FleetWorker | None = None) -> AsyncIterator[FleetWorker]:
        """A slot, for as long as the body runs; a higher priority comes first. `had`: the one that `take` gave.

        Raises:
            NoWorkers: there is none, and there will be none.
        """
        worker = had or await self.take(priority)
        try:
            yield worker
        finally:
            self.give_back(worker)

    async def take(self, priority: int) -> FleetWorker:
        """A slot, to be given back. Raises: as `taken`."""
        waiter = _Waiter()
        heappush(self._waiting, (-priority, next(self._numbers), waiter))
        self.deal()
        try:
            await waiter.told.wait()
        except trio.Cancelled:
            waiter.gone = True
            if waiter.worker is not None:
                self.give_back(waiter.worker)
            raise
        if waiter.worker is None:
            raise NoWorkers from self._why
        return waiter.worker

    def deal(self) -> None:
        """Give what is free to who waits, or the word that nothing comes."""
        while self._waiting:
            living = [worker for worker in self._free if worker.alive]
            worker = max(living, key=self._free.__getitem__, default=None)
            if worker is None and (self._coming or self._free):
                return  # one comes; of those that have just died it will be told whether another one does
            if worker is not None and not self._free[worker]:
                return
            waiter = heappop(self._waiting)[2]
            if waiter.gone:
                continue
            if worker is not None:
                self._free[worker] -= 1
                waiter.worker = worker
            waiter.told.set()

    def give_back(self, worker: FleetWorker) -> None:
        """A slot is free."""
        if worker in self._free:
            self._free[worker] += 1
            self.deal()
        elif worker in self._retiring:
            self._retiring[worker] += 1
            self._returned.set()
            self._returned = trio.Event()

    def add(self, worker: FleetWorker) -> None:
        """A worker is ready."""
        self._coming -= 1
        self._free[worker] = self._per_worker
        self.deal()

    def retire(self, worker: FleetWorker) -> None:
        """Give it no more calls; it ends those that it has."""
        self._retiring[worker] = self._free.pop(worker)
        self.deal()

    async def wait_idle(self, worker: FleetWorker) -> None:
        """Return when the last call of a worker that retires has ended."""
        while self._retiring[worker] < self._per_worker:
            await self._returned.wait()

    def remove(self, worker: FleetWorker) -> None:
        """A worker gets no more calls; another one may take its place."""
        self._coming += 1
        self._free.pop(worker, None)
        self._retiring.pop(worker, None)
        self.deal()

    def expect(self) -> None:
        """One more worker is on its way."""
        self._coming += 1

    def give_up(self, why: BaseException | None = None) -> None:
        """One that was on its way will not come."""
        self._coming -= 1
        self._why = why or self._why
        self.deal()
