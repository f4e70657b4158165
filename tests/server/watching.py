"""What something costs the whole program while it goes on: memory, and the time in which nobody else had a turn."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory that the process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class Watch:
    def __init__(self) -> None:
        self.stall = 0.0
        """Seconds of CPU time of the longest step: wall time would measure the neighbours."""
        self.grown = 0
        """Bytes, at the worst."""
        self._before = resident()

    async def run(self) -> None:
        """Look at each turn of the event loop, until cancelled."""
        last = time.thread_time()
        while True:
            await trio.lowlevel.checkpoint()
            now = time.thread_time()
            self.stall = max(self.stall, now - last)
            last = now
            self.look()

    def look(self) -> None:
        self.grown = max(self.grown, resident() - self._before)


@contextmanager
def watched() -> Iterator[Watch]:
    """What happens in the block. The heap that other tests have left is not looked through meanwhile: the collector
    would need a tenth of a second for it, in the middle of somebody's step."""
    gc.freeze()
    try:
        watch = Watch()
        yield watch
        watch.look()
    finally:
        gc.unfreeze()
