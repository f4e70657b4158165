"""What dies: an actor, all actors, a node; each with rollouts in flight. And what is only cancelled."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

pytest.importorskip("ray", reason="pip install 'triocept[ray]'")

from tests.fleets.cluster import NODE, parent_of, raylet_of, the_cluster
from tests.real_fleets import work
from triocept.fleets import Fleet, RayEngine, Result, open_fleet

SLOTS = 4
TASKS = 24
SECONDS = 1.0


@pytest.fixture
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(120):
        yield


pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    the_cluster()
    async with open_fleet(RayEngine(workers=2, slots_per_worker=SLOTS, num_cpus=1)) as fleet:
        yield fleet


def notes(folder: Path) -> list[tuple[int, int, int, int]]:
    """What ran: the task, the attempt, the worker's process, and the agent's."""
    found = []
    for path in folder.iterdir():
        if text := path.read_text():
            number, attempt, worker, _ = path.name.split(".")
            found.append((int(number), int(attempt), int(worker), int(text)))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(fleet: Fleet) -> list[int]:
    return [int(name.partition("(pid ")[2].split()[0]) for name in fleet.workers]


async def all_outcomes(fleet: Fleet, folder: Path, kill: Callable[[list[int]], Iterable[int]]) -> set[int]:
    """Run the tasks, have some workers killed when all slots are taken; the tasks that were in flight on those."""
    results: list[Result[Any, Any]] = []
    doomed: set[int] = set()
    tasks = [(str(folder), number, SECONDS) for number in range(TASKS)]
    async with fleet.map(work.roll_out, tasks) as outcomes:
        while len([each for each in notes(folder) if lives(each[3])]) < 2 * SLOTS:
            await trio.sleep(0.02)
        running = [each for each in notes(folder) if lives(each[3])]
        killed = set(await trio.to_thread.run_sync(kill, workers_of(fleet)))
        doomed = {number for number, _, worker, _ in running if worker in killed}
        async for result in outcomes:
            results.append(result)  # noqa: PERF401 - as they come
    assert sorted(result.number for result in results) == list(range(TASKS)), "each exactly one"
    assert {result.value for result in results} == {"heard two"}
    assert all(trace.sealed and len(trace) == 2 for result in results for trace in result.traces)
    with trio.fail_after(10):
        while any(lives(agent) for *_, agent in notes(folder)):
            await trio.sleep(0.05)
    again = {result.number for result in results if result.attempt > 1}
    ran = Counter(number for number, *_ in notes(folder))
    assert {number for number, times in ran.items() if times > 1} <= again
    assert {result.attempt for result in results} <= {1, 2}
    assert again <= doomed, "only those that were in flight there"
    assert len(again) >= len(killed) * (SLOTS - 1), "one may have ended just then"
    return again


async def test_one_actor_is_killed_and_only_its_rollouts_run_again(fleet: Fleet, tmp_path: Path) -> None:
    def kill(workers: list[int]) -> list[int]:
        os.kill(workers[0], signal.SIGKILL)
        return workers[:1]

    again = await all_outcomes(fleet, tmp_path, kill)
    assert len(again) <= SLOTS


async def test_all_actors_are_killed_and_all_that_ran_runs_again(fleet: Fleet, tmp_path: Path) -> None:
    def kill(workers: list[int]) -> list[int]:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        return workers

    again = await all_outcomes(fleet, tmp_path, kill)
    assert len(again) <= 2 * SLOTS


async def test_a_node_is_killed_and_only_its_rollouts_run_again(fleet: Fleet, tmp_path: Path) -> None:
    cluster = the_cluster()

    def kill(workers: list[int]) -> list[int]:
        (node,) = cluster.worker_nodes
        there = [worker for worker in workers if parent_of(worker) == raylet_of(node)]
        assert len(there) == 1, "Ray was told to spread them"
        cluster.remove_node(node, allow_graceful=False)
        return there

    try:
        again = await all_outcomes(fleet, tmp_path, kill)
    finally:
        cluster.add_node(**NODE)
    assert len(again) <= SLOTS


async def test_the_agents_of_a_cancelled_map_are_dead_and_its_actors_live(tmp_path: Path) -> None:
    the_cluster()
    async with open_fleet(RayEngine(workers=2, slots_per_worker=8, num_cpus=1)) as fleet:
        before = workers_of(fleet)
        with trio.CancelScope() as scope:
            tasks = [(str(tmp_path), number, 100) for number in range(40)]
            async with fleet.map(work.roll_out, tasks) as results:
                while len(notes(tmp_path)) < 16:
                    await trio.sleep(0.02)
                scope.cancel()
                cancelled = trio.current_time()
                await anext(results)
        took = trio.current_time() - cancelled
        assert scope.cancelled_caught
        assert len(notes(tmp_path)) == 16
        assert not any(lives(agent) for *_, agent in notes(tmp_path))
        assert took < 10, "they obey, and need no grace"
        assert workers_of(fleet) == before
        folder = tmp_path / "again"
        folder.mkdir()
        async with fleet.map(work.roll_out, [(str(folder), 0, 0)]) as results:
            assert [result.value async for result in results] == ["heard two"]
