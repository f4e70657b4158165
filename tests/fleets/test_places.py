"""Workers that come, go, die and cannot be started: by a mock clock, with workers that do as they are told."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fleets.mortal import Mortal, open_nothing
from triocept.errors import FleetLost
from triocept.fleets import Fleet, WorkerLost, open_fleet
from triocept.fleets.fleet import PAUSES


async def _wait(worker: object, seconds: float, *, attempt: int) -> float:
    await trio.sleep(seconds)
    return seconds


async def _values(fleet: Fleet, seconds: list[float]) -> list[float]:
    async with fleet.map(_wait, seconds, ordered=True) as results:
        return [result.value async for result in results]


async def test_a_fleet_grows(autojump_clock: trio.testing.MockClock) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing) as fleet:
        await fleet.resize(3)
        assert sorted(fleet.workers) == ["worker 0", "worker 1", "worker 2"]
        before = trio.current_time()
        assert await _values(fleet, [10.0] * 6) == [10.0] * 6
        assert trio.current_time() - before == 10.0


async def test_those_that_go_end_what_they_do_first_and_then_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal()
    engine.workers = 3
    async with open_fleet(engine, worker=open_nothing) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(_values, fleet, [10.0] * 6)
        await wait_all_tasks_blocked()
        await fleet.resize(1)
        assert len(fleet.workers) == 1
        await trio.sleep(9)
        assert len(engine.living) == 3
        await trio.sleep(2)
        assert tuple(worker.name for worker in engine.living) == fleet.workers


async def test_a_worker_that_goes_and_dies_costs_its_calls_an_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal()
    engine.workers = 2
    async with open_fleet(engine, worker=open_nothing) as fleet:
        async with fleet.map(_wait, [10.0] * 4) as results:
            await wait_all_tasks_blocked()
            await fleet.resize(1)
            (leaves,) = [worker for worker in engine.living if worker.name not in fleet.workers]
            await leaves.kill()
            attempts = sorted([result.attempt async for result in results])
        assert attempts == [1, 1, 2, 2]
        assert len(engine.living) == 1


async def test_a_worker_that_dies_at_once_is_replaced_at_longer_and_longer_times(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing) as fleet:
        for pause in PAUSES[1:]:
            await engine.living[0].kill()
            await trio.sleep(pause)
            await wait_all_tasks_blocked()
            assert fleet.workers == ("worker 0",)
        assert [
            later - sooner for sooner, later in zip(engine.started_at, engine.started_at[1:], strict=False)
        ] == list(PAUSES[1:])
        await trio.sleep(60)  # it has lived: what was is forgotten
        await engine.living[0].kill()
        await wait_all_tasks_blocked()
        assert fleet.workers == ("worker 0",)


async def test_a_worker_that_cannot_be_started_again_for_a_moment_is_there_afterwards(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing, retries=1) as fleet:
        engine.fails_to_start = [OSError("away"), WorkerLost("worker 0", "ended before it was ready")]
        with caplog.at_level(logging.ERROR, "triocept.fleet"):
            async with fleet.map(_wait, [5.0]) as results:
                await wait_all_tasks_blocked()
                await engine.living[0].kill()
                (result,) = [result async for result in results]
    assert (result.value, result.attempt) == (5.0, 2)
    assert "worker 0 failed: away" in caplog.text


async def test_where_no_worker_can_be_started_any_more_the_map_says_why(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing) as fleet:
        engine.fails_to_start = [OSError(f"away, {number}") for number in range(20)]
        async with fleet.map(_wait, [5.0, 6.0]) as results:
            await wait_all_tasks_blocked()
            await engine.living[0].kill()
            with pytest.raises(FleetLost, match="2 tasks have no outcome") as caught:
                await anext(results)
        assert isinstance(caught.value.__cause__, OSError)
        engine.fails_to_start = []
        await fleet.resize(1)
        assert await _values(fleet, [1.0]) == [1.0]


async def test_a_fleet_is_left_while_a_worker_is_awaited(autojump_clock: trio.testing.MockClock) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing) as fleet:
        for _ in range(4):
            await engine.living[0].kill()
            await trio.sleep(PAUSES[-1])
        await engine.living[0].kill()
        await wait_all_tasks_blocked()
        assert fleet.workers == ()
        left_at = trio.current_time()
    assert trio.current_time() == left_at
    assert engine.living == []


async def test_whose_start_is_cancelled_leaves_no_worker_and_nobody_waits_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal()
    async with open_fleet(engine, worker=open_nothing) as fleet:
        engine.start_takes = 100
        with trio.move_on_after(1):
            await fleet.resize(3)
        engine.fails_to_start = [OSError("away")] * 20
        async with fleet.map(_wait, [5.0]) as results:
            await wait_all_tasks_blocked()
            await engine.living[0].kill()
            with trio.fail_after(2000), pytest.raises(FleetLost):
                await anext(results)


async def test_a_fleet_whose_workers_do_not_come_can_be_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = Mortal(workers=3)
    engine.start_takes = 1000
    with trio.move_on_after(1) as scope:
        async with open_fleet(engine, worker=open_nothing):
            raise AssertionError
    assert scope.cancelled_caught
    assert trio.current_time() < 2 + scope.deadline


async def test_among_waiting_maps_the_higher_priority_has_all_slots_for_as_long_as_it_has_tasks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order: list[str] = []

    async def run(fleet: Fleet, name: str, priority: int) -> None:
        seconds = [1.0, 1.3, *[1.0] * 8]  # no two end at one time
        async with fleet.map(_wait, seconds, priority=priority) as results:
            async for _ in results:
                order.append(name)  # noqa: PERF401 - as they come

    async with open_fleet(Mortal(), worker=open_nothing) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(run, fleet, "low", 0)
        await trio.sleep(0.1)
        nursery.start_soon(run, fleet, "high", 1)
    assert order == ["low"] * 2 + ["high"] * 10 + ["low"] * 8


async def test_a_map_whose_tasks_are_awaited_keeps_no_slot_from_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sender, receiver = trio.open_memory_channel[float](0)
    async with open_fleet(Mortal(slots_per_worker=1), worker=open_nothing) as fleet, receiver:
        async with fleet.map(_wait, receiver, priority=1) as waits, sender:
            await wait_all_tasks_blocked()
            assert await _values(fleet, [1.0, 2.0]) == [1.0, 2.0]
            await sender.send(3.0)
            assert (await anext(waits)).value == 3.0
