"""How the cost of work grows with its size: CPU time and memory of n against 2n.

Rules:

1. CPU time of this thread, never the clock on the wall: what else the machine does is not measured.
2. Noise only adds to a time, so the least of several counts, for n and for 2n alike; a ratio under the bound counts
   from the third round on, so that no single noise lets what is quadratic (4) pass.
3. What is over the bound is looked at once more, n against 4n: between n and 2n may lie the end of a cache of the
   processor, which other programs make smaller. What is linear takes 4 times as much, what is quadratic 16 times, and
   the bound is between them (9): noise alone does not reach it.
4. The garbage collector is off, as its rounds belong to whatever else the process holds.
5. n is so much that a few times what hardly anything takes is little beside it: an event loop's beginning and end would
   else hide what is quadratic behind them.
6. The work is the program's alone: what it works on is made before, or the time that takes is measured in its place.
"""

import gc
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

Work: TypeAlias = Callable[[], object]
Make: TypeAlias = Callable[[int], Work]
"""Makes work of this size."""

MOST = 3.0
"""What is linear takes 2 times as much for 2n, and what is quadratic 4 times."""
WIDE = 4
"""Times n, for a second look."""
ENOUGH = 0.003
"""Seconds of work that can be compared: some thousand times the clock's resolution."""
LITTLE = 0.0003
"""Seconds that anything may take, whatever its size: what takes less at `LARGEST` does not grow."""
LARGEST = 50_000
MORE_THAN_NOTHING = 5
"""Times what next to no work takes."""
ROUNDS = 3
MOST_ROUNDS = 12
NOISE = 32 * 1024
"""Bytes that anything may take, whatever its size."""


def bounded(make: Make, largest: int) -> Make:
    """Let no work of more than four times this size be made: beyond it another way is taken, at another cost."""
    make.largest = largest  # type: ignore[attr-defined]
    return make


class Growth(NamedTuple):
    """What n takes, and some times as much: in seconds, or in bytes."""

    n: int
    once: float
    more: float
    times: int = 2

    @property
    def ratio(self) -> float:
        """What twice as much takes, in times of what n takes."""
        return (self.more / self.once) ** (1 / math.log2(self.times))


def cpu_growth(make: Make, *, rounds: int = MOST_ROUNDS) -> Growth:
    """The CPU time of n, which is so much that it can be measured, and of 2n."""
    with _without_collector():
        n = _size(make)
        growth = _cpu_growth(make, n, 2, rounds)
        return growth if growth.ratio < MOST else _cpu_growth(make, n, WIDE, rounds)


def _cpu_growth(make: Make, n: int, times: int, rounds: int) -> Growth:
    growth = Growth(n, float("inf"), float("inf"), times)
    works = make(n), make(times * n)
    for number in range(1, rounds + 1):
        once, more = map(_seconds, works)
        growth = Growth(n, max(LITTLE, min(growth.once, once)), max(LITTLE, min(growth.more, more)), times)
        if number >= ROUNDS and growth.ratio < MOST:
            break
    return growth


def memory_growth(make: Make, n: int) -> Growth:
    """The most memory that is in use at once during the work of n, and of 2n, but for `NOISE`."""
    with _without_collector():
        once, more = (max(NOISE, _peak(make(size))) for size in (n, 2 * n))
    return Growth(n, once, more)


def _size(make: Make) -> int:
    n, nothing = 64, make(1)
    enough = max(ENOUGH, MORE_THAN_NOTHING * min(_seconds(nothing) for _ in range(ROUNDS)))
    largest: int = getattr(make, "largest", LARGEST)
    while (taken := _seconds(make(n))) < enough and n < largest:
        n = min(int(n * max(1.5, min(1.2 * enough / max(taken, 1e-6), 32))), largest)
    return n


def _seconds(work: Work) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _peak(work: Work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
