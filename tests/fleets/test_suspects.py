"""Tasks that end their workers: they are found, and no other task is lost. By a mock clock."""

from __future__ import annotations

import random
from collections.abc import Collection
from statistics import mean

import pytest
import trio

from tests.fleets.mortal import Frail, Mortal, end_worker, open_nothing
from triocept.fleets import Fleet, Outcome, Result, WorkerLost, open_fleet
from triocept.fleets.slots import Slots

SECONDS = 10.0


class Work:
    """Tasks of about 10 s, of which some end their worker."""

    def __init__(self, culprits: Collection[int], crash_at: float = 0.5) -> None:
        self.culprits = culprits
        self.crash_at = crash_at

    async def __call__(self, worker: object, task: int, *, attempt: int) -> int:
        if task in self.culprits:
            await trio.sleep(self.crash_at * SECONDS)
            await end_worker()
        await trio.sleep(SECONDS * random.Random(task).uniform(0.7, 1.3))
        return task


async def outcomes(fleet: Fleet, work: Work, count: int, **options: object) -> list[Result[int, int]]:
    async with fleet.map(work, range(count), **options) as results:  # type: ignore[arg-type]
        return sorted([result async for result in results], key=lambda result: result.number)


def lost(results: list[Result[int, int]]) -> set[int]:
    """The tasks that are lost; each other one has its value, and each is there once."""
    assert [result.task for result in results] == list(range(len(results)))
    found = {result.task for result in results if isinstance(result.outcome, Outcome.Lost)}
    assert all(result.outcome == Outcome.Value(result.task) for result in results if result.task not in found)
    return found


async def test_a_task_that_ends_its_worker_is_lost_and_no_other_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_fleet(Mortal(2, 32), worker=open_nothing) as fleet:
        results = await outcomes(fleet, Work({100}), 200)
    assert lost(results) == {100}
    outcome = results[100].outcome
    assert isinstance(outcome, Outcome.Lost)
    assert outcome.reason == "killed, while no other task ran in this worker"
    assert len(outcome.beside) == 31
    assert 100 not in outcome.beside
    assert {result.task for result in results if result.attempt > 1} - {100} <= set(outcome.beside)
    assert max(result.attempt for result in results) <= 6, "the half of 32, and so on"


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_many_tasks_that_end_their_workers_are_lost_and_no_other_ones(
    autojump_clock: trio.testing.MockClock, workers: int, retries: int
) -> None:
    culprits = set(random.Random(workers).sample(range(400), 8))
    async with open_fleet(Mortal(workers, 16), worker=open_nothing, retries=retries) as fleet:
        assert lost(await outcomes(fleet, Work(culprits), 400)) == culprits


async def test_one_crash_of_200_costs_about_twice_the_time_of_none_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def run(culprits: set[int], crash_at: float) -> float:
        async with open_fleet(Mortal(2, 32), worker=open_nothing) as fleet:
            begun = trio.current_time()
            assert lost(await outcomes(fleet, Work(culprits, crash_at), 200)) == culprits
            return trio.current_time() - begun

    none = await run(set(), 0)
    one = [await run({culprit}, crash_at) for culprit in range(5, 200, 30) for crash_at in (0.1, 0.5, 0.9)]
    assert mean(one) < 2 * none
    assert max(one) < 2.5 * none


async def test_where_every_task_ends_its_worker_each_is_lost_and_the_fleet_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_fleet(Mortal(1, 4), worker=open_nothing) as fleet:
        assert lost(await outcomes(fleet, Work(range(20), 0.0), 20)) == set(range(20))
        assert lost(await outcomes(fleet, Work(()), 4)) == set()


async def test_workers_that_are_killed_from_outside_cost_no_task(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal(3, 8)
    async with open_fleet(engine, worker=open_nothing) as fleet, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def kill() -> None:
            for number in range(12):
                await trio.sleep(3 + number)
                await engine.living[number % len(engine.living)].kill()

        assert lost(await outcomes(fleet, Work(()), 100)) == set()
        nursery.cancel_scope.cancel()


async def test_the_tasks_of_two_maps_are_told_apart(autojump_clock: trio.testing.MockClock) -> None:
    found: dict[str, list[Result[int, int]]] = {}
    async with open_fleet(Mortal(1, 8), worker=open_nothing) as fleet, trio.open_nursery() as nursery:

        async def run(name: str, culprits: set[int]) -> None:
            found[name] = await outcomes(fleet, Work(culprits), 12)

        nursery.start_soon(run, "one", {2})
        nursery.start_soon(run, "other", set())
    assert lost(found["one"]) == {2}
    assert lost(found["other"]) == set()
    (outcome,) = [result.outcome for result in found["one"] if isinstance(result.outcome, Outcome.Lost)]
    assert len(outcome.beside) == 3, "of its own map"


async def test_suspects_run_while_a_fleet_is_made_smaller(autojump_clock: trio.testing.MockClock) -> None:
    async with open_fleet(Mortal(4, 4), worker=open_nothing) as fleet, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def shrink() -> None:
            for workers in (3, 2, 1):
                await trio.sleep(7)
                await fleet.resize(workers)

        assert lost(await outcomes(fleet, Work({1, 6, 11}), 30)) == {1, 6, 11}


async def test_suspects_that_wait_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    engine = Mortal(1, 8)
    async with open_fleet(engine, worker=open_nothing) as fleet:
        with trio.move_on_after(6):
            engine.start_takes = 100
            await outcomes(fleet, Work({2}), 12)
        engine.start_takes = 0
        assert lost(await outcomes(fleet, Work(()), 12)) == set()


async def test_a_lost_answer_of_a_worker_that_lives_concerns_its_task_alone(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = 0
    call = Frail.call

    async def lose_some(self: Frail, job: bytes) -> bytes:
        nonlocal answers
        answer = await call(self, job)
        answers += 1
        if answers in (3, 9):
            raise WorkerLost(self.name, "its answer did not arrive", worker_lives=True)
        return answer

    monkeypatch.setattr(Frail, "call", lose_some)
    engine = Mortal(2, 4)
    async with open_fleet(engine, worker=open_nothing) as fleet:
        results = await outcomes(fleet, Work(()), 20)
    assert lost(results) == set()
    assert sorted(result.attempt for result in results) == [1] * 18 + [2] * 2
    assert len(engine.started_at) == 2, "no worker died"


async def test_calls_in_a_worker_that_is_killed_for_one_of_them_are_no_suspects(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They run again beside fresh calls, and none of them counts as alone with the death."""
    engine = Mortal(1, 3)
    setup = engine.packing.pack(open_nothing, "worker", keep=True)
    slots = Slots(3, 2)
    async with engine.open_worker("a", setup, 1) as first, engine.open_worker("b", setup, 1) as second:
        slots.add(first)
        late, other = [await slots.take(0) for _ in range(2)]
        assert late.number, "0 is a call without a slot, such as one of `fleet.each`"
        slots.end_worker_of(late, {late.number})
        with trio.move_on_after(0.1) as limit:
            await slots.take(0)
        assert limit.cancelled_caught, "a worker that is killed takes no call"
        slots.lost(other, worker_lives=False)
        slots.give_back(late)
        slots.remove(first)
        slots.add(second)
        await slots.retake(other)
        assert other.lost_with == ()
        assert {other.worker, (await slots.take(0)).worker} == {second}
