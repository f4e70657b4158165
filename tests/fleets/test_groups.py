"""Groups: each sample of a task has one outcome, also where its group is stopped early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fleets import work
from tests.fleets.engines import Make, every_engine
from triocept.errors import FleetLost, GroupStopped
from triocept.fleets import Engine, Group, InProcess, Outcome, Processes, Result, open_fleet


async def groups_of(
    function: Any, tasks: Any, engine: Engine | None = None, **options: Any
) -> list[Group[Any, Any]]:
    async with open_fleet(engine) as fleet, fleet.map(function, tasks, **options) as results:
        return [group async for group in results.groups()]


async def tell_sample(worker: object, task: str, *, attempt: int, sample: int) -> str:
    await trio.lowlevel.checkpoint()
    return f"{task}{sample}"


async def end_in_turn(worker: object, task: object, *, attempt: int, sample: int) -> int:
    await trio.sleep(1 + sample)
    return sample


async def stay_but_first(worker: object, task: object, *, attempt: int, sample: int) -> int:
    if sample:
        await trio.sleep_forever()
    await trio.sleep(1)
    return sample


@every_engine
async def test_each_task_is_run_as_often_as_the_group_is_large(make: Make) -> None:
    async with open_fleet(make()) as fleet, fleet.map(work.double, range(5), group_size=3) as results:
        found = [result async for result in results]
    assert sorted((r.group, r.sample, r.task, r.value) for r in found) == [
        (n, sample, n, 2 * n) for n in range(5) for sample in range(3)
    ]
    assert sorted(result.number for result in found) == list(range(15))


@every_engine
async def test_a_function_that_takes_its_sample_is_told(make: Make) -> None:
    groups = await groups_of(work.tell_sample, "ab", make(), group_size=2, ordered=True)
    assert [[result.value for result in group.results] for group in groups] == [["a0", "a1"], ["b0", "b1"]]


async def test_without_groups_a_task_is_sample_0_of_none() -> None:
    async with open_fleet() as fleet, fleet.map(tell_sample, ["a"]) as results:
        result = await anext(results)
        assert (result.group, result.sample, result.value) == (None, 0, "a0")
        with pytest.raises(RuntimeError, match="this map has no groups"):
            results.groups()


@every_engine
async def test_groups_come_whole_and_their_results_in_order(make: Make) -> None:
    """A group may be larger than there are slots."""
    groups = await groups_of(work.double, range(7), make(), group_size=6)
    assert sorted(group.number for group in groups) == list(range(7))
    for group in groups:
        assert group.complete
        assert [result.sample for result in group.results] == list(range(6))
        assert {result.group for result in group.results} == {group.number} == {group.task}


async def test_in_order_groups_come_as_their_tasks_were_given(autojump_clock: object) -> None:
    groups = await groups_of(end_in_turn, "abcdef", InProcess(5), group_size=3, ordered=True)
    assert [group.task for group in groups] == list("abcdef")


async def test_a_group_that_is_stopped_has_an_outcome_for_each_sample(autojump_clock: object) -> None:
    asked: list[list[int]] = []

    def two_are_enough(results: tuple[Result[Any, Any], ...]) -> bool:
        asked.append([result.sample for result in results])
        return len(results) == 2

    (group,) = await groups_of(end_in_turn, ["a"], InProcess(3), group_size=6, stop_group=two_are_enough)
    assert trio.current_time() > 0
    assert [type(result.outcome) for result in group.results] == [
        Outcome.Value,
        Outcome.Value,
        *[Outcome.Stopped] * 4,
    ]
    assert [result.attempt for result in group.results] == [1, 1, 1, 1, 0, 0], "two ran, and two never began"
    assert [bool(result.worker) for result in group.results] == [True] * 4 + [False] * 2
    assert asked == [[0], [0, 1]], "and not when it is decided"
    with pytest.raises(GroupStopped, match="group 0 was stopped before sample 3 had ended"):
        group.results[3].value  # noqa: B018


async def test_a_stopped_group_stops_no_other(autojump_clock: object) -> None:
    groups = await groups_of(
        end_in_turn,
        "ab",
        InProcess(8),
        group_size=3,
        ordered=True,
        stop_group=lambda results: results[0].task == "a",
    )
    outcomes = [[type(result.outcome) for result in group.results] for group in groups]
    assert outcomes == [
        [Outcome.Value, Outcome.Stopped, Outcome.Stopped],
        [Outcome.Value, Outcome.Value, Outcome.Value],
    ]


@every_engine
async def test_a_stopped_groups_samples_have_ended_when_their_outcome_comes(
    make: Make, tmp_path: Path
) -> None:
    async with open_fleet(make()) as fleet:
        async with fleet.map(
            work.note_and_wait_but_first, [str(tmp_path)], group_size=3, stop_group=lambda results: True
        ) as results:
            outcomes = [type(result.outcome) async for result in results]
        assert outcomes == [Outcome.Value, Outcome.Stopped, Outcome.Stopped]
        assert list(tmp_path.iterdir()) == []
        assert len(fleet.workers) in (1, 2), "and the workers live on"


async def test_an_error_counts_for_the_end_of_a_group(autojump_clock: object) -> None:
    async def fail(worker: object, task: object, *, attempt: int, sample: int) -> None:
        await trio.sleep(1 + sample)
        raise LookupError

    def has_failed(results: tuple[Result[Any, Any], ...]) -> bool:
        return any(isinstance(result.outcome, Outcome.Error) for result in results)

    (group,) = await groups_of(fail, ["a"], group_size=3, stop_group=has_failed)
    assert [type(result.outcome) for result in group.results] == [
        Outcome.Error,
        Outcome.Stopped,
        Outcome.Stopped,
    ]


async def test_what_the_predicate_raises_leaves_bare(autojump_clock: object) -> None:
    def broken(results: object) -> bool:
        raise ZeroDivisionError("no group is this long")

    with pytest.raises(ZeroDivisionError, match="no group is this long"):
        await groups_of(stay_but_first, ["a", "b"], group_size=3, stop_group=broken)


@every_engine
async def test_a_sample_is_tried_again_by_itself(make: Make) -> None:
    (group,) = await groups_of(
        work.fail_first_of_odd, ["a"], make(), group_size=4, retry_if=lambda error: True
    )
    assert [(result.value, result.attempt) for result in group.results] == [(0, 1), (1, 2), (2, 1), (3, 2)]


async def test_a_task_is_pulled_when_the_samples_of_the_one_before_have_begun(autojump_clock: object) -> None:
    pulled: list[int] = []

    async def tasks() -> AsyncIterator[int]:
        for number in range(100):
            pulled.append(number)
            yield number

    async with open_fleet(InProcess(4)) as fleet, fleet.map(end_in_turn, tasks(), group_size=3) as results:
        await trio.sleep(0.5)
        assert pulled == [0, 1], "three of the first, and one of the second"
        await anext(results.groups())
        await trio.testing.wait_all_tasks_blocked()
        assert len(pulled) <= 4


async def test_a_cancelled_reader_of_groups_loses_nothing(autojump_clock: object) -> None:
    async with (
        open_fleet(InProcess(2)) as fleet,
        fleet.map(end_in_turn, "ab", group_size=2, ordered=True) as results,
    ):
        with trio.move_on_after(1.5) as limit:
            await anext(results.groups())
        assert limit.cancelled_caught
        groups = [group async for group in results.groups()]
    assert [(group.task, len(group.results)) for group in groups] == [("a", 2), ("b", 2)]


async def test_groups_that_lack_samples_when_no_worker_is_left_come_before_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept.fleets.fleet.PAUSES", (0.0, 0.0))
    groups = []
    with pytest.raises(FleetLost) as caught:
        opens_once = partial(work.open_once, str(tmp_path / "opened"))
        async with open_fleet(Processes(1, slots_per_worker=2), worker=opens_once, retries=9) as fleet:
            async with fleet.map(work.die_but_first, [str(tmp_path)], group_size=4) as results:
                async for group in results.groups():
                    groups.append(group)  # noqa: PERF401 - those before the error, too
    (group,) = groups
    assert not group.complete
    assert [result.value for result in group.results] == [0]
    assert caught.value.unfinished == (str(tmp_path),), "once, whatever it lacks"


async def test_results_are_read_in_one_way_or_in_the_other() -> None:
    async with open_fleet() as fleet:
        async with fleet.map(work.double, [1, 2], group_size=2) as results:
            await anext(results)
            with pytest.raises(RuntimeError, match="the groups would be incomplete"):
                results.groups()
        async with fleet.map(work.double, [1, 2], group_size=2) as results:
            await anext(results.groups())
            with pytest.raises(RuntimeError, match="are read in groups"):
                await anext(results)


async def test_what_makes_no_group_is_said_at_once() -> None:
    async with open_fleet() as fleet:
        with pytest.raises(ValueError, match="group_size must be 1 or more, not 0"):
            fleet.map(work.double, [1], group_size=0)
        with pytest.raises(TypeError, match="stop_group needs groups"):
            fleet.map(work.double, [1], stop_group=lambda results: True)
        with pytest.raises(TypeError, match="stop_group must take one argument"):
            fleet.map(work.double, [1], group_size=2, stop_group=lambda: True)  # type: ignore[arg-type,misc]
