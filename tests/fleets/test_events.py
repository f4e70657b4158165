"""What a fleet tells of itself: all of it, in order, and nobody waits for who listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fleets import work
from tests.fleets.mortal import Mortal
from triocept.errors import FleetLost
from triocept.fleets import (
    EventsMissed,
    Fleet,
    FleetEvent,
    FleetResized,
    InProcess,
    MapEnded,
    MapStarted,
    TaskEnded,
    TaskRequeued,
    TaskRetried,
    TaskSkipped,
    TaskStarted,
    WorkerDied,
    WorkerGivenUp,
    WorkerLeft,
    WorkerStarted,
    open_fleet,
    open_store,
)


@pytest.fixture
async def bounded(autojump_clock: object) -> AsyncIterator[None]:
    with trio.fail_after(100_000):
        yield


def waiting(stream: Any) -> list[FleetEvent]:
    """What waits to be read."""
    return list(stream._events)


async def run(fleet: Fleet, function: Any, tasks: Any, **options: Any) -> None:
    async with fleet.map(function, tasks, **options) as results:
        async for _ in results:
            pass


def without_time(event: FleetEvent) -> tuple[Any, ...]:
    return type(event), *(getattr(event, name) for name in event.__struct_fields__ if name != "at")


async def wait_a_second(worker: object, task: object, *, attempt: int) -> None:
    await trio.sleep(1)


async def fail_twice(worker: object, task: object, *, attempt: int) -> None:
    await trio.sleep(1)
    if attempt < 3:
        raise ConnectionError("not yet,\nand not soon")


async def test_a_map_tells_of_each_step_in_order() -> None:
    async with open_fleet(InProcess(1)) as fleet:
        with fleet.events() as events:
            await run(fleet, wait_a_second, "ab")
            assert [without_time(event)[0] for event in waiting(events)] == [
                MapStarted,
                *[TaskStarted, TaskEnded] * 2,
                MapEnded,
            ]
            begun, started, ended, *_, over = waiting(events)
    assert isinstance(begun, MapStarted)
    assert (begun.map, begun.function, begun.total) == (0, "wait_a_second", 2)
    assert isinstance(started, TaskStarted)
    assert (started.number, started.group, started.sample, started.attempt) == (0, None, 0, 1)
    assert started.worker == "worker 0"
    assert isinstance(ended, TaskEnded)
    assert (ended.outcome, ended.reason) == ("value", "")
    assert ended.seconds == pytest.approx(1, abs=0.5)
    assert isinstance(over, MapEnded)
    assert over.unfinished == 0


async def test_a_retry_and_an_error_are_told_with_their_reason_in_one_line() -> None:
    async with open_fleet(InProcess(1), retries=1) as fleet:
        with fleet.events() as events:
            await run(fleet, fail_twice, "a", retry_if=lambda error: True)
            _, first, retried, second, ended, _ = waiting(events)
    assert [getattr(event, "attempt", None) for event in (first, retried, second, ended)] == [1, 1, 2, 2]
    assert isinstance(retried, TaskRetried)
    assert isinstance(ended, TaskEnded)
    assert retried.reason == ended.reason == "ConnectionError: not yet, and not soon"
    assert ended.outcome == "error"
    assert ended.seconds == pytest.approx(2, abs=0.5), "since the first attempt"


async def test_a_worker_that_dies_and_what_that_costs_is_told() -> None:
    engine = Mortal(1, 2)
    async with open_fleet(engine) as fleet:
        with fleet.events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, fleet, wait_a_second, "ab")
                await trio.sleep(0.5)
                engine.living[0].reason = "it was killed"
                await engine.living[0].kill()
            told = waiting(events)
    died = [event for event in told if isinstance(event, WorkerDied)]
    assert [(event.worker, event.reason) for event in died] == [("worker 0", "it was killed")]
    assert sum(isinstance(event, WorkerStarted) for event in told) == 1, "its successor"
    assert {event.number for event in told if isinstance(event, TaskRequeued)} == {0, 1}
    assert [event.attempt for event in told if isinstance(event, TaskStarted)] == [1, 1, 2, 2]


async def test_a_place_that_stays_empty_and_a_map_that_lacks_outcomes_are_told() -> None:
    engine = Mortal(1, 1)
    async with open_fleet(engine) as fleet:
        with fleet.events() as events:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def lose() -> None:
                    with pytest.raises(FleetLost):
                        await run(fleet, wait_a_second, "ab")

                await trio.sleep(0.5)
                engine.fails_to_start = [OSError("no more")] * 10
                await engine.living[0].kill()
            *_, given_up, ended = waiting(events)
    assert isinstance(given_up, WorkerGivenUp)
    assert given_up.reason == "no more"
    assert isinstance(ended, MapEnded)
    assert ended.unfinished == 1


async def test_a_fleet_that_is_resized_tells_who_comes_and_who_goes() -> None:
    async with open_fleet(Mortal(1, 1)) as fleet:
        with fleet.events() as events:
            await fleet.resize(2)
            await fleet.resize(1)
            told = [without_time(event) for event in waiting(events)]
    assert told == [
        (FleetResized, 2),
        (WorkerStarted, "worker 1"),
        (FleetResized, 1),
        (WorkerLeft, "worker 1"),
    ]


async def test_a_stopped_group_ends_each_of_its_samples() -> None:
    async def stay(worker: object, task: object, *, attempt: int, sample: int) -> None:
        await trio.sleep(1 if sample == 0 else 1000)

    async with open_fleet(InProcess(2)) as fleet:
        with fleet.events() as events:
            await run(fleet, stay, "a", group_size=3, stop_group=lambda results: True)
            ended = [event for event in waiting(events) if isinstance(event, TaskEnded)]
            begun = waiting(events)[0]
    assert isinstance(begun, MapStarted)
    assert begun.total == 3
    assert {(event.group, event.sample): event.outcome for event in ended} == {
        (0, 0): "value",
        (0, 1): "stopped",
        (0, 2): "stopped",
    }


async def test_a_map_that_is_left_tells_how_many_it_cut_short() -> None:
    async def stay(worker: object, task: object, *, attempt: int) -> None:
        await trio.sleep_forever()

    async with open_fleet(InProcess(3)) as fleet:
        with fleet.events() as events:
            async with fleet.map(stay, iter(range(100))):
                await trio.sleep(0.5)
            begun, *_, ended = waiting(events)
    assert isinstance(begun, MapStarted)
    assert begun.total is None
    assert isinstance(ended, MapEnded)
    assert ended.unfinished == 3


async def test_what_the_store_has_is_told_as_skipped(tmp_path: Path) -> None:
    async with open_fleet(InProcess(2)) as fleet:
        async with open_store(tmp_path) as store:
            await run(fleet, work.double, [1, 2], store=store)
        with fleet.events() as events:
            async with open_store(tmp_path) as store:
                await run(fleet, work.double, [1, 2, 3], store=store)
            told = waiting(events)
    assert [(event.task, event.count) for event in told if isinstance(event, TaskSkipped)] == [(0, 1), (1, 1)]
    assert [event.number for event in told if isinstance(event, TaskStarted)] == [2]


async def test_a_slow_reader_holds_nobody_up_and_is_told_how_much_it_missed_and_where() -> None:
    seen: list[FleetEvent] = []

    async def read() -> None:
        with fleet.events(buffer=5) as events:
            async for event in events:
                seen.append(event)
                await trio.sleep(4)

    async with trio.open_nursery() as nursery, open_fleet(InProcess(1)) as fleet:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        since = trio.current_time()
        await run(fleet, wait_a_second, range(20))
        assert 19 < trio.current_time() - since < 60  # the reader needs four seconds for each of 43 events
    missed = [event for event in seen if isinstance(event, EventsMissed)]
    assert len(seen) - len(missed) + sum(event.count for event in missed) == 43
    assert missed
    numbers = [event.number for event in seen if isinstance(event, TaskEnded)]
    assert numbers == sorted(numbers)
    assert all(not isinstance(b, EventsMissed) for a, b in pairwise(seen) if isinstance(a, EventsMissed))


async def test_a_stream_ends_with_the_fleet_and_not_before_its_last_event() -> None:
    seen: Counter[str] = Counter()
    async with trio.open_nursery() as nursery, open_fleet(InProcess(1)) as fleet:

        async def read(task_status: trio.TaskStatus[None]) -> None:
            with fleet.events() as events:
                task_status.started()
                async for event in events:
                    seen[type(event).__name__] += 1

        await nursery.start(read)
        await run(fleet, wait_a_second, range(3))
    assert seen == {"MapStarted": 1, "TaskStarted": 3, "TaskEnded": 3, "MapEnded": 1, "WorkerLeft": 1}
    with fleet.events() as events, pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_reader_that_is_cancelled_loses_no_event() -> None:
    async with open_fleet(InProcess(1)) as fleet:
        with fleet.events() as events:
            with trio.move_on_after(1):
                await anext(events)
            await run(fleet, wait_a_second, [1])
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(events)
            assert isinstance(await anext(events), MapStarted)


async def test_a_reader_that_has_left_is_told_nothing() -> None:
    async with open_fleet(InProcess(1)) as fleet:
        with fleet.events() as events:
            pass
        await run(fleet, wait_a_second, [1])
        assert waiting(events) == []
