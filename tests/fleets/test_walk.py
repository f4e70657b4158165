"""A random walk through what befalls a fleet: each healthy task has its value.

A walk is made of its seed before anything runs: workers and slots, tasks of every kind (healthy, failing, killing and
hanging), workers that are killed from outside, a fleet that is resized, a driver that leaves and resumes. Then:

1. Each healthy task has its `Outcome.Value`, and each failing one its `Outcome.Error`.
2. Each task that kills or hangs its workers is `Outcome.Lost`, and no other task is.
3. No outcome comes twice, and no fleet is lost.

By a mock clock there are many walks; in processes and on Ray few, for they take seconds. TRIOCEPT_FLEET_WALKS=200 makes
more of both.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fleets.engines import Make, with_processes
from tests.fleets.mortal import Mortal, open_nothing
from tests.fleets.walk_work import do, do_here
from triocept.fleets import Fleet, Outcome, Result, open_fleet, open_store, read_results

WALKS = int(os.environ.get("TRIOCEPT_FLEET_WALKS", "0"))

HUNG_AFTER = 4.0
"""Seconds: in a process that has little of a busy machine, an import may hold up the loop for longer than one."""
HEALTHY = ("quick", "slow", "dies once")
CULPRITS = ("dies", "dies late", "hangs")


@dataclass(frozen=True)
class Walk:
    """What happens."""

    workers: int
    slots: int
    retries: int
    fates: tuple[str, ...]
    """Of each task."""
    kills: tuple[float, ...]
    """Seconds between two workers that are killed from outside."""
    sizes: tuple[int, ...]
    """To how many workers the fleet is resized."""
    leaves: tuple[int, ...]
    """After how many outcomes the driver leaves the map, and begins anew."""
    two_maps: bool


def make_walk(seed: int, tasks: int, *, hangs: int = 100) -> Walk:
    pick = random.Random(seed)
    workers, slots = pick.randint(1, 4), pick.randint(1, 9)
    kinds, weights = (*HEALTHY, "fails", *CULPRITS), (60, 10, 4, 6, 4, 3, 2)
    kills = tuple([pick.uniform(0, 3) for _ in range(pick.choice((0, 0, 3)))])
    # A task is not at fault that is alone in each of the killed workers, and in one that it kills itself, once.
    retries = len(kills) + 1 if kills else pick.randint(0, 2)
    fates = pick.choices(kinds, weights, k=tasks)
    while fates.count("hangs") > hangs:
        fates.remove("hangs")
    if not retries:
        fates = ["slow" if fate == "dies once" else fate for fate in fates]
    return Walk(
        workers=workers,
        slots=slots,
        retries=retries,
        fates=tuple(fates),
        kills=kills,
        sizes=tuple([pick.randint(1, 4) for _ in range(pick.choice((0, 0, 3)))]),
        leaves=tuple([pick.randint(0, tasks // 2) for _ in range(pick.choice((0, 0, 2)))]),
        two_maps=pick.random() < 0.3,
    )


def check(walk: Walk, results: list[Result[Any, Any]], *, all_there: bool) -> None:
    """See that each task has the outcome that its fate gives it."""
    numbers = [result.number for result in results]
    assert len(set(numbers)) == len(numbers), "an outcome came twice"
    if all_there:
        assert set(numbers) == set(range(len(walk.fates)))
    for result in results:
        fate, outcome = walk.fates[result.number], result.outcome
        if fate in HEALTHY:
            assert outcome == Outcome.Value(result.number), (fate, result, outcome)
        elif fate == "fails":
            assert isinstance(outcome, Outcome.Error)
            assert type(outcome.error) is LookupError
        else:
            assert isinstance(outcome, Outcome.Lost), (fate, result, outcome)
            assert result.number not in outcome.beside
            assert set(outcome.beside) <= set(range(len(walk.fates)))


async def disturb(fleet: Fleet, walk: Walk, kill: Callable[[Fleet], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def resize() -> None:
            for workers in walk.sizes:
                await trio.sleep(0.5)
                await fleet.resize(workers)

        for seconds in walk.kills:
            await trio.sleep(seconds)
            await kill(fleet)


async def check_map(fleet: Fleet, walk: Walk, function: Any, folder: Path) -> None:
    folder.mkdir()
    tasks = [{"id": str(n), "fate": fate, "folder": str(folder)} for n, fate in enumerate(walk.fates)]
    done: set[int] = set()
    for leave_after in (*walk.leaves, None):
        async with open_store(folder / "store") as store, fleet.map(function, tasks, store=store) as results:
            found: list[Result[Any, Any]] = []
            async for result in results:
                found.append(result)
                if len(found) == leave_after:
                    break
        kept = {result.number for result in read_results(folder / "store")}
        check(walk, found, all_there=False)
        assert not done & {result.number for result in found if not isinstance(result.outcome, Outcome.Lost)}
        done |= kept
    last = {result.number for result in found}
    assert done | last == set(range(len(walk.fates))), "an outcome is missing"
    assert done == {n for n, fate in enumerate(walk.fates) if fate not in CULPRITS}
    for result in read_results(folder / "store"):
        assert isinstance(result.outcome, Outcome.Value) == (walk.fates[result.number] in HEALTHY)


async def check_walk(
    engine: Any, walk: Walk, function: Any, folder: Path, kill: Callable[[Fleet], Awaitable[None]]
) -> None:
    opening = open_fleet(engine, worker=open_nothing, retries=walk.retries, grace=5)
    async with opening as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(disturb, fleet, walk, kill)
        async with trio.open_nursery() as maps:
            for number in range(1 + walk.two_maps):
                maps.start_soon(check_map, fleet, walk, function, folder / str(number))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(WALKS or 40))
async def test_each_healthy_task_has_its_value(
    autojump_clock: trio.testing.MockClock, seed: int, tmp_path: Path
) -> None:
    walk = make_walk(seed, tasks=60)
    engine = Mortal(walk.workers, walk.slots)
    engine.start_takes = 0.3

    async def kill(fleet: Fleet) -> None:
        if engine.living:
            await random.Random(seed).choice(engine.living).kill()

    with trio.fail_after(10_000):
        await check_walk(engine, walk, do_here, tmp_path, kill)


@pytest.mark.timeout(280)
@pytest.mark.once
@pytest.mark.parametrize("seed", range(WALKS // 20) or (3,))
@with_processes
async def test_each_healthy_task_has_its_value_in_processes(make: Make, seed: int, tmp_path: Path) -> None:
    walk = make_walk(seed, tasks=12, hangs=1)

    async def kill(fleet: Fleet) -> None:
        pids = [int(name.partition("(pid ")[2].split(")")[0].split()[0]) for name in fleet.workers]
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)

    engine = make(min(walk.workers, 2), walk.slots, hung_after=HUNG_AFTER)
    await check_walk(engine, walk, do, tmp_path, kill)
