"""Engine with one worker in this program's own process and trio loop. Tasks and results are not copied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from .._util.checks import check_count
from .engine import Engine, FleetWorker
from .packing import ByReference, Packing
from .site import Site, open_site


@final
class InProcess(Engine):
    """Engine with one worker, in this program's own trio loop. The worker can run hundreds of rollouts at once.

    Args:
        slots: maximum concurrent calls.
    """

    def __init__(self, slots: int = 32) -> None:
        check_count("slots", slots, least=1)
        self.packing: Packing = ByReference()
        self.workers = 1
        self.slots_per_worker = slots

    def __repr__(self) -> str:
        return f"InProcess({self.slots_per_worker})"

    @asynccontextmanager
    async def open_worker(self, name: str, setup: bytes, grace: float) -> AsyncIterator[FleetWorker]:
        async with open_site(setup, self.packing) as site:
            worker = _Local(name, site)
            try:
                yield worker
            finally:
                worker.over = True


@final
class _Local(FleetWorker):
    def __init__(self, name: str, site: Site) -> None:
        self.name = name
        self.over = False
        self._site = site

    @property
    def alive(self) -> bool:
        return not self.over

    async def call(self, job: bytes) -> bytes:
        return await self._site.call(job)

    async def wait_lost(self) -> None:
        await trio.sleep_forever()

    async def kill(self) -> None:
        await trio.lowlevel.checkpoint()
