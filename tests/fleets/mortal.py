"""Workers in this loop that die, hang and cannot be started as a test wants it: for a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import trio

from triocept.fleets import Engine, FleetWorker, WorkerLost
from triocept.fleets.in_process import InProcess
from triocept.fleets.site import Site, open_site

_mine: ContextVar[Frail] = ContextVar("_mine")


async def end_worker() -> None:
    """Kill the worker of the call that runs this."""
    await _mine.get().kill()
    await trio.sleep_forever()


@asynccontextmanager
async def open_nothing() -> AsyncIterator[None]:
    yield


class Frail(FleetWorker):
    """A part of this program that can be killed."""

    def __init__(self, name: str, site: Site) -> None:
        self.name = name
        self._site = site
        self._lost = trio.Event()

    @property
    def alive(self) -> bool:
        return not self._lost.is_set()

    async def call(self, job: bytes) -> bytes:
        _mine.set(self)
        answer = None
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await self._lost.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            answer = await self._site.call(job)
            nursery.cancel_scope.cancel()
        if answer is None:
            raise WorkerLost(self.name, "killed")
        return answer

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def kill(self) -> None:
        self._lost.set()
        await trio.lowlevel.checkpoint()


class Mortal(Engine):
    """Runs workers in this loop; they can be killed, and the next ones kept from starting."""

    def __init__(self, workers: int = 1, slots_per_worker: int = 2) -> None:
        self.packing = InProcess().packing
        self.workers = workers
        self.slots_per_worker = slots_per_worker
        self.living: list[Frail] = []
        self.started_at: list[float] = []
        self.fails_to_start: list[Exception] = []
        self.start_takes = 0.0

    @asynccontextmanager
    async def open_worker(self, name: str, setup: bytes, grace: float) -> AsyncIterator[FleetWorker]:
        self.started_at.append(trio.current_time())
        await trio.sleep(self.start_takes)
        if self.fails_to_start:
            raise self.fails_to_start.pop(0)
        async with open_site(setup, self.packing) as site:
            worker = Frail(name, site)
            self.living.append(worker)
            try:
                yield worker
            finally:
                self.living.remove(worker)
