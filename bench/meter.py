"""What processes have used, from Linux's /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A row."""

    rollouts: int
    wall: float
    """Milliseconds for each rollout, as are the next three."""
    driver: float
    workers: float
    engine: float
    """Of processes between the two: Ray's own, or a broker."""
    memory: float
    """MiB of the largest worker."""


class Meter:
    """Reads what driver, workers and the processes between them have used, from here on."""

    def __init__(self, workers: list[int], engine: Iterable[int] = ()) -> None:
        self._workers = workers
        self._engine = list(engine)
        self._cpu = self._read()
        self._wall = time.perf_counter()

    def _read(self) -> list[float]:
        others = [worker for worker in self._workers if worker != os.getpid()]
        return [time.process_time(), _cpu_of(others), _cpu_of(self._engine)]

    def figures(self, count: int) -> Figures:
        """What it was for each of so many rollouts."""
        wall = time.perf_counter() - self._wall
        driver, workers, engine = (1000 * (now - then) / count for now, then in zip(self._read(), self._cpu))
        return Figures(
            rollouts=count,
            wall=1000 * wall / count,
            driver=driver,
            workers=workers,
            engine=engine,
            memory=max(map(_memory_of, self._workers)),
        )


def children(parent: int, mark: bytes) -> Iterator[int]:
    """The processes that one has started, with `mark` in their command lines."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = int(_stat(int(folder.name))[1]) == parent
            if ours and mark in (folder / "cmdline").read_bytes():
                yield int(folder.name)
        except OSError:
            pass  # it has ended


def _cpu_of(pids: Iterable[int]) -> float:
    """Seconds, without those of children."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICKS


def _stat(pid: int) -> list[str]:
    """From the state on: see proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _memory_of(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
