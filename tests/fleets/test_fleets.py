"""What a fleet promises, of every engine: each task one outcome, and nothing that outlives it."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triocept
from tests.fleets import work
from tests.fleets.engines import ENGINES, Make, every_engine, on_every_python, with_processes
from triocept.errors import FleetLost, RemoteError
from triocept.fleets import (
    Fleet,
    InProcess,
    Outcome,
    Processes,
    Result,
    TaskEnded,
    WorkerDied,
    open_fleet,
    open_store,
)


async def results_of(fleet: Fleet, function: Any, tasks: Any, **options: Any) -> list[Result[Any, Any]]:
    async with fleet.map(function, tasks, **options) as results:
        return [result async for result in results]


@on_every_python
async def test_each_task_has_one_outcome(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        results = await results_of(fleet, work.double, range(50))
    assert sorted(result.number for result in results) == list(range(50))
    assert {result.task: result.value for result in results} == {n: 2 * n for n in range(50)}
    assert {result.attempt for result in results} == {1}


@every_engine
async def test_in_order_they_come_as_they_were_given(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        results = await results_of(fleet, work.double, range(50), ordered=True)
    assert [result.task for result in results] == list(range(50))


@on_every_python
async def test_a_real_agent_runs_in_a_worker_and_its_trace_comes_back(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        results = await results_of(fleet, work.run_agent, ["a", "b", "c"])
    assert {result.task: result.value for result in results} == {t: f"heard {t}" for t in "abc"}
    for result in results:
        (trace,) = result.traces
        assert trace.sealed
        assert trace[0].response.text == f"heard {result.task}"


@on_every_python
async def test_a_traceback_shows_the_line_also_of_a_function_that_goes_by_value(make: Make) -> None:
    async def local(worker: object, task: int, *, attempt: int) -> None:
        raise ValueError(task)  # this very line

    async with open_fleet(make()) as fleet:
        (result,) = await results_of(fleet, local, [1])
    assert isinstance(result.outcome, Outcome.Error)
    assert "raise ValueError(task)  # this very line" in result.outcome.traceback


@every_engine
async def test_a_function_that_gives_nothing_to_await_is_told_so(make: Make) -> None:
    """Where that cannot be seen before a task runs."""

    def plain(worker: object, task: int, *, attempt: int) -> int:
        return int(task)

    async with open_fleet(make()) as fleet:
        (result,) = await results_of(fleet, plain, [1])
    assert isinstance(result.outcome, Outcome.Error)
    assert "plain` returned int: 1, which cannot be awaited" in str(result.outcome.error)
    assert "it must be an `async def`" in str(result.outcome.error)


async def test_a_map_that_is_entered_wrongly_says_how() -> None:
    async with open_fleet() as fleet:
        opened: Any = fleet.map(work.double, [1])
        text = r"^fleet.map\(…\) is an async context manager: write `async with fleet.map\(…\) as results`$"
        with pytest.raises(TypeError, match=text):
            await opened
        with pytest.raises(TypeError, match=text):
            async for _ in opened:
                pytest.fail("it began")


@on_every_python
async def test_an_error_is_an_outcome_of_its_own_class(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        found = {
            r.task: r for r in await results_of(fleet, work.raise_for, ["odd", "refusal", "fine", "group"])
        }
    odd, refusal, group = (found[name].outcome for name in ("odd", "refusal", "group"))
    assert isinstance(odd, Outcome.Error)
    assert isinstance(odd.error, work.Odd)
    assert (odd.error.number, odd.error.why) == (3, "it is")
    assert 'raise Odd(3, "it is")' in odd.traceback
    assert isinstance(refusal, Outcome.Error)
    assert isinstance(refusal.error, triocept.Refusal)
    assert (refusal.error.status, refusal.error.retry_after) == (429, 2)
    assert isinstance(group, Outcome.Error)
    assert isinstance(group.error, ExceptionGroup)
    assert found["fine"].outcome == Outcome.Value("fine with fine")
    with pytest.raises(work.Odd):
        found["odd"].value  # noqa: B018


@every_engine
async def test_an_exit_is_an_outcome_too_and_ends_nobody(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        (result, *rest) = await results_of(fleet, work.raise_for, ["exit", "a", "b"], ordered=True)
    assert isinstance(result.outcome, Outcome.Error)
    assert isinstance(result.outcome.error, SystemExit)
    assert [each.value for each in rest] == ["fine with a", "fine with b"]


@with_processes
async def test_an_error_that_cannot_cross_says_its_class_and_text(make: Make) -> None:
    async with open_fleet(make(1, 2)) as fleet:
        (result,) = await results_of(fleet, work.raise_for, ["unpicklable"])
    assert isinstance(result.outcome, Outcome.Error)
    assert isinstance(result.outcome.error, RemoteError)
    assert str(result.outcome.error) == "tests.fleets.work.Unpicklable: nobody sees my lock"


@with_processes
async def test_a_result_that_cannot_cross_is_an_error_of_its_task(make: Make) -> None:
    async with open_fleet(make(1, 2)) as fleet:
        (result,) = await results_of(fleet, work.give_lock, ["a"])
    assert isinstance(result.outcome, Outcome.Error)
    assert "the function's return value cannot be sent" in str(result.outcome.error)
    assert result.attempt == 1


@with_processes
async def test_a_function_or_a_worker_that_cannot_cross_is_said_at_once(make: Make) -> None:
    lock = threading.Lock()

    async def locked(worker: object, task: object, *, attempt: int) -> None:
        lock.acquire()

    async with open_fleet(make(1, 2)) as fleet:
        with pytest.raises(TypeError, match=r"the function .*locked cannot be sent to another process"):
            fleet.map(locked, [1])
    with pytest.raises(TypeError, match="worker cannot be sent"):
        async with open_fleet(make(1, 2), worker=lambda: lock):  # type: ignore[arg-type,return-value]
            raise AssertionError


@with_processes
async def test_a_task_that_cannot_cross_is_its_own_error(make: Make) -> None:
    async with open_fleet(make(1, 2)) as fleet:
        results = await results_of(fleet, work.double, [1, threading.Lock(), 3], ordered=True)
    assert [type(result.outcome) for result in results] == [Outcome.Value, Outcome.Error, Outcome.Value]


@every_engine
async def test_an_error_whose_text_cannot_be_had_is_its_tasks_alone(make: Make, tmp_path: Path) -> None:
    async with open_store(tmp_path / "run") as store, open_fleet(make(), retries=1) as fleet:
        results = await results_of(fleet, work.raise_mute, [1, 2], store=store, retry_if=lambda error: True)
        kept = list(store.results())
    assert [type(result.outcome) for result in results] == [Outcome.Error, Outcome.Error]
    for result in kept:
        assert isinstance(result.outcome, Outcome.Error)
        assert "its text is not available, because __str__ raised ValueError" in str(result.outcome.error)


@every_engine
async def test_what_is_raised_and_is_no_exception_is_an_outcome_too(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        (result, *rest) = await results_of(fleet, work.raise_bare, ["bare", "a", "b"], ordered=True)
        workers = fleet.workers
    assert isinstance(result.outcome, Outcome.Error)
    assert isinstance(result.outcome.error, work.Bare)
    assert (result.attempt, result.worker in workers) == (1, True), "its worker lives"
    assert [each.value for each in rest] == ["a", "b"]


@with_processes
async def test_a_value_that_cannot_be_made_again_here_is_its_tasks_error(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        results = await results_of(fleet, work.give_made_in_workers_only, [os.getpid(), 0], ordered=True)
    (bad, good) = results
    assert isinstance(bad.outcome, Outcome.Error)
    assert str(bad.outcome.error) == (
        "the result of the function cannot be unpickled in the program that called the map: "
        "LookupError: there is no such thing here"
    )
    assert "_made_in_workers_only" in bad.outcome.traceback
    assert good.outcome == Outcome.Value(0)


@every_engine
async def test_nobody_asks_a_task_for_its_repr(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        results = await results_of(fleet, work.give_kind, [work.Unshown(), 2], ordered=True)
    assert [result.value for result in results] == ["Unshown", "int"]


async def test_a_function_with_other_arguments_is_said_at_once() -> None:
    async def other(task: object) -> None:
        pass

    async with open_fleet() as fleet:
        with pytest.raises(
            TypeError,
            match=r"other must accept attempt=, because a map calls `await .*other\(worker, task, attempt=1\)`",
        ):
            fleet.map(other, [1])  # type: ignore[arg-type]


async def test_a_function_that_requires_another_argument_is_named_with_it() -> None:
    async def more(worker: object, task: object, *, attempt: int, extra: int) -> None:
        pass

    async def sampled(
        worker: object, task: object, third: int, *, attempt: int, sample: int, extra: int
    ) -> None:
        pass

    async def without(worker: object, task: object, *, extra: int) -> None:
        pass

    wrong: list[tuple[Any, str]] = [
        (
            more,
            r"more requires `extra`, which a map does not pass: declare a default, or bind a value with functools",
        ),
        (sampled, r"sampled requires `third`, `extra`, which a map does not pass"),
        (without, r"without must accept attempt=, "),
    ]
    async with open_fleet() as fleet:
        for function, text in wrong:
            with pytest.raises(TypeError, match=text):
                fleet.map(function, [1])
        async with fleet.map(partial(more, extra=1), [1]) as results:
            assert [result.value async for result in results] == [None]


@pytest.mark.parametrize("engine", [None, triocept.fleets.InProcess(1)])
async def test_unused_replies_are_not_logged_for_each_rollout_of_a_fleet(
    engine: triocept.fleets.Engine | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave_a_reply(endpoint: triocept.Endpoint, task: int, *, attempt: int) -> None:
        async with endpoint.open_rollout(triocept.ScriptedModel(["unused"])):
            pass

    if engine is None:
        async with triocept.serve_endpoint() as endpoint:
            await leave_a_reply(endpoint, 0, attempt=1)
    else:
        async with open_fleet(engine) as fleet, fleet.map(leave_a_reply, [1]) as results:
            assert [result.value async for result in results] == [None]
    assert ("not used" in caplog.text) is (engine is None)


async def test_a_class_as_engine_and_a_path_as_store_are_errors() -> None:
    wrong: Any = Processes
    with pytest.raises(TypeError, match=r"^engine must be an instance, .*, not the class Processes$"):
        async with open_fleet(engine=wrong):
            pass
    async with open_fleet() as fleet:
        with pytest.raises(
            TypeError, match=r"^store must be an open store, not str: 'runs': write `async with open_store"
        ):
            await results_of(fleet, work.double, [1], store="runs")


async def test_a_function_that_is_not_async_is_said_at_once() -> None:
    def constant(worker: object, task: int, *, attempt: int) -> int:
        return 1

    def plain(worker: object, task: int, *, attempt: int) -> int:
        return 2 * task

    def generator(worker: object, task: int, *, attempt: int) -> Iterator[int]:
        yield len([task])

    async def asynchronous(worker: object, task: int, *, attempt: int) -> AsyncIterator[int]:
        yield len([task])

    async with open_fleet() as fleet:
        for function in (constant, plain, generator, asynchronous, partial(plain)):
            with pytest.raises(TypeError, match="must be an `async def` without `yield`"):
                fleet.map(function, [1])  # type: ignore[arg-type]
        async with fleet.map(
            lambda worker, task, *, attempt: work.double(worker, task, attempt=attempt), [4]
        ) as results:
            assert (await anext(results)).value == 8


@every_engine
async def test_what_a_worker_opens_is_opened_once_and_given_to_each_call(make: Make) -> None:
    async with open_fleet(make(), worker=work.open_bench) as fleet:
        results = await results_of(fleet, work.count_calls, range(20))
    pids = {result.value[0] for result in results}
    for pid in pids:
        counts = sorted(result.value[1] for result in results if result.value[0] == pid)
        assert counts == list(range(1, len(counts) + 1))


@every_engine
async def test_a_worker_that_cannot_be_opened_raises_its_own_error(make: Make) -> None:
    with pytest.raises(work.Odd, match="7 is odd") as caught:
        async with open_fleet(make(), worker=work.open_nothing):
            raise AssertionError
    assert caught.value.why == "there is no such bench"


@every_engine
async def test_a_start_that_is_cancelled_leaves_no_worker(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cancel() -> None:
                await note_appears(note)
                scope.cancel()

            async with open_fleet(make(), worker=partial(work.open_never, str(note))):
                raise AssertionError
    assert scope.cancelled_caught
    if (pid := int(note.read_text())) != os.getpid():
        with trio.fail_after(30):
            while is_there(pid):
                await trio.sleep(0.01)


async def note_appears(note: Path) -> None:
    while not note.exists():
        await trio.sleep(0.01)


@every_engine
async def test_leaving_a_map_cancels_what_is_in_flight_before_it_returns(make: Make, tmp_path: Path) -> None:
    notes = [tmp_path / name for name in "abc"]
    async with open_fleet(make()) as fleet:
        async with fleet.map(work.note_and_wait, map(str, notes)):
            for note in notes:
                await note_appears(note)
        assert not any(note.exists() for note in notes)
        assert [r.value for r in await results_of(fleet, work.double, [1])] == [2], "the workers live on"


@every_engine
async def test_a_cancelled_map_ends_its_calls(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with open_fleet(make()) as fleet:
        with trio.CancelScope() as scope:
            async with fleet.map(work.note_and_wait, [str(note)]) as results:
                await note_appears(note)
                scope.cancel()
                await anext(results)
        assert scope.cancelled_caught
        assert not note.exists()


@every_engine
async def test_the_bodys_own_error_leaves_bare(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with pytest.raises(KeyError, match="mine"):
        async with open_fleet(make()) as fleet, fleet.map(work.note_and_wait, [str(note)]):
            await note_appears(note)
            raise KeyError("mine")
    assert not note.exists()


@every_engine
async def test_a_task_is_pulled_when_there_is_a_slot_for_it(make: Make, tmp_path: Path) -> None:
    pulled: list[int] = []

    async def tasks() -> AsyncIterator[str]:
        for number in range(1000):
            pulled.append(number)
            yield str(tmp_path / str(number))

    async with open_fleet(make()) as fleet, fleet.map(work.note_and_wait, tasks()):
        for number in range(4):
            await note_appears(tmp_path / str(number))
    assert pulled == list(range(4))


@every_engine
async def test_who_reads_slowly_slows_the_tasks_down(make: Make) -> None:
    pulled: list[int] = []

    def tasks() -> Any:
        for number in range(100):
            pulled.append(number)
            yield number

    async with open_fleet(make()) as fleet, fleet.map(work.double, tasks()) as results:
        for read in range(1, 20):
            await anext(results)
            assert len(pulled) <= read + 4 + 1


@every_engine
async def test_an_error_of_the_tasks_comes_after_the_outcomes_of_those_before(make: Make) -> None:
    def tasks() -> Any:
        yield 1
        yield 2
        raise LookupError("no more tasks here")

    seen = []
    async with open_fleet(make()) as fleet:
        with pytest.raises(LookupError, match="no more tasks here"):
            async with fleet.map(work.double, tasks()) as results:
                async for result in results:
                    seen.append(result.value)  # noqa: PERF401 - those before the error, too
    assert sorted(seen) == [2, 4]


@every_engine
async def test_an_error_is_tried_again_if_it_is_asked_for(make: Make) -> None:
    async with open_fleet(make()) as fleet:
        (result,) = await results_of(
            fleet, work.fail_first, ["a"], retry_if=lambda error: isinstance(error, ConnectionError)
        )
        (given_up,) = await results_of(fleet, work.raise_for, ["odd"], retry_if=lambda error: True)
    assert (result.value, result.attempt) == (3, 3)
    assert isinstance(given_up.outcome, Outcome.Error)
    assert given_up.attempt == 3


async def test_what_retry_if_raises_leaves_bare() -> None:
    def broken(error: BaseException) -> bool:
        raise ZeroDivisionError("no error is this bad")

    async with open_fleet() as fleet:
        with pytest.raises(ZeroDivisionError, match="no error is this bad"):
            await results_of(fleet, work.raise_for, ["odd", "fine"], retry_if=broken)


@every_engine
async def test_two_maps_share_the_slots_of_a_fleet(make: Make) -> None:
    """Which of them goes first is told by a mock clock, in test_places."""
    values: dict[int, list[int]] = {}

    async def run(fleet: Fleet, priority: int) -> None:
        async with fleet.map(work.double, range(20), priority=priority) as results:
            values[priority] = [result.value async for result in results]

    async with open_fleet(make()) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(run, fleet, 0)
        nursery.start_soon(run, fleet, 1)
    assert sorted(values[0]) == sorted(values[1]) == [2 * number for number in range(20)]


@with_processes
async def test_a_worker_that_dies_costs_its_tasks_an_attempt_and_no_more(make: Make, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(30)]
    async with open_fleet(make(2, 4)) as fleet:
        results = await results_of(fleet, work.die_once, tasks)
        assert len(fleet.workers) >= 1
    assert sorted(result.value for result in results) == list(range(30))
    again = {result.value for result in results if result.attempt == 2}
    assert 3 in again
    assert len(again) <= 4, "only those that it had"
    ran = [path.name.split("-")[:2] for path in tmp_path.iterdir()]
    assert {int(number) for number, attempt in ran if attempt == "2"} == again


@with_processes
async def test_a_task_that_kills_each_of_its_workers_is_lost_and_others_are_not(make: Make) -> None:
    async with open_fleet(make(1, 1), retries=1) as fleet:
        (result,) = await results_of(fleet, work.die, ["a"])
        (fine,) = await results_of(fleet, work.double, [4])
    assert isinstance(result.outcome, Outcome.Lost)
    assert result.outcome.reason.endswith(", while no other task ran in this worker")
    assert (result.attempt, fine.value) == (2, 8)
    with pytest.raises(triocept.fleets.WorkerLost, match=r"worker 0 .*(SIGKILL|exit)"):
        result.value  # noqa: B018


@with_processes
async def test_where_no_worker_can_be_started_the_map_says_which_tasks_have_no_outcome(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept.fleets.fleet.PAUSES", (0.0, 0.0))
    opens_once = partial(work.open_once, str(tmp_path / "opened"))
    async with open_fleet(make(1, 1), worker=opens_once, retries=10) as fleet:
        with pytest.raises(FleetLost, match="1 task has no outcome") as caught:
            await results_of(fleet, work.die, ["a", "b"])
        assert caught.value.unfinished == ("a",)
        with pytest.raises(FleetLost):
            await results_of(fleet, work.double, [1])


@with_processes
async def test_a_task_that_ends_its_worker_takes_no_other_task_along(make: Make) -> None:
    async with open_fleet(make(1, 8), retries=0) as fleet:
        results = await results_of(fleet, work.die_for, [*range(7), "die", *range(7, 12)])
    lost = [result for result in results if isinstance(result.outcome, Outcome.Lost)]
    assert [result.task for result in lost] == ["die"]
    assert sorted(result.value for result in results if result not in lost) == list(range(12))
    assert isinstance(lost[0].outcome, Outcome.Lost)
    assert 7 not in lost[0].outcome.beside
    assert set(lost[0].outcome.beside) <= set(range(13))


@with_processes
async def test_a_driver_that_is_busy_kills_no_worker(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The loop of the driver is blocked for longer than `hung_after`, again and again, and the workers answer."""
    async with open_fleet(make(2, 4, hung_after=2)) as fleet, fleet.map(work.double, range(3)) as results:
        async for result in results:
            assert result.attempt == 1
            time.sleep(2.5)  # a trainer's step
    assert "did not answer" not in caplog.text


@every_engine
@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
async def test_an_interrupt_that_a_function_raises_is_its_outcome_in_a_process_of_its_own(
    make: Make, kind: type[BaseException]
) -> None:
    async with open_fleet(make()) as fleet:
        if isinstance(make(), InProcess) and kind is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                await results_of(fleet, work.raise_this, [kind, None])
            return
        results = await results_of(fleet, work.raise_this, [kind, None], ordered=True)
    assert [type(result.outcome) for result in results] == [Outcome.Error, Outcome.Value]
    assert isinstance(results[0].outcome, Outcome.Error)
    assert type(results[0].outcome.error) is kind
    assert results[0].attempt == 1


@with_processes
async def test_the_error_of_a_value_has_the_traceback_of_the_worker_as_its_cause(make: Make) -> None:
    async with open_fleet(make(1, 1)) as fleet:
        (result,) = await results_of(fleet, work.raise_for, ["odd"])
    for _ in range(2):
        with pytest.raises(work.Odd) as caught:
            result.value  # noqa: B018
        text = "".join(traceback.format_exception(caught.value))
        assert text.count('raise Odd(3, "it is")') == 1
        assert text.index('raise Odd(3, "it is")') < text.index("direct cause of the following exception")


async def test_an_error_in_this_process_keeps_its_own_cause() -> None:
    async with open_fleet() as fleet:
        (result,) = await results_of(fleet, work.raise_from, [0])
    with pytest.raises(ValueError, match="raised") as caught:
        result.value  # noqa: B018
    assert isinstance(caught.value.__cause__, KeyError)


@every_engine
async def test_a_call_that_exceeds_the_timeout_of_its_map_is_cancelled_and_an_error(
    make: Make, tmp_path: Path
) -> None:
    note = str(tmp_path / "note")
    async with open_fleet(make()) as fleet:
        (result,) = await results_of(fleet, work.note_and_wait, [note], timeout=0.5)
        fine = await results_of(fleet, work.double, [1, 2], timeout=60)
    assert not Path(note).exists(), "it was cancelled"
    assert isinstance(result.outcome, Outcome.Error)
    assert isinstance(result.outcome.error, trio.TooSlowError)
    assert "timeout of its map, 0.5 s" in str(result.outcome.error)
    assert sorted(one.value for one in fine) == [2, 4]


@with_processes
async def test_a_call_that_shields_itself_beyond_its_timeout_ends_with_its_worker(
    make: Make, tmp_path: Path
) -> None:
    """It is an error, and stored as one; the other calls in the worker run again."""
    store, notes = tmp_path / "store", tmp_path / "notes"
    notes.mkdir()
    tasks = [(str(notes), number) for number in range(6)]
    async with open_fleet(make(1, 3), grace=0.5) as fleet, open_store(store) as kept:
        with fleet.events() as events:
            options: dict[str, Any] = {"timeout": 2, "store": kept, "key": lambda task: task[1]}
            results = {r.number: r for r in await results_of(fleet, work.shield, tasks, **options)}
            assert not await results_of(fleet, work.shield, tasks, **options), "the error is an outcome"
        died = [event async for event in events if isinstance(event, WorkerDied)]
    outcome = results[0].outcome
    assert isinstance(outcome, Outcome.Error)
    assert isinstance(outcome.error, trio.TooSlowError)
    assert str(outcome.error) == (
        "the call took longer than the timeout of its map, 2 s, and its worker was killed: "
        "task 0 did not end within 0.5 s of its timeout"
    )
    assert [event.reason for event in died] == ["task 0 did not end within 0.5 s of its timeout"]
    assert [results[number].value for number in range(1, 6)] == list(range(1, 6))
    (pid,) = [int(note.name.split("-")[2]) for note in notes.glob("0-*")]
    assert not is_there(pid)


@with_processes
async def test_all_calls_of_a_killed_worker_whose_timeouts_have_passed_end_with_it(
    make: Make, tmp_path: Path
) -> None:
    """They do not run again, whether or not their graces have passed; the other calls do."""
    tasks = [(str(tmp_path), number) for number in (0, -1, 1, 2, -2, *range(3, 8))]
    async with open_fleet(make(1, 4), grace=2) as fleet:
        with fleet.events() as events:
            results = await results_of(fleet, work.shield, tasks, timeout=2)
        died = [event async for event in events if isinstance(event, WorkerDied)]
    assert [event.reason for event in died] in [
        [f"task {number} did not end within 2 s of its timeout"] for number in (0, 1)
    ]
    assert sorted(result.task for result in results) == sorted(tasks)
    for result in results:
        if result.task[1] > 0:
            assert result.value == result.task[1]
            continue
        assert isinstance(result.outcome, Outcome.Error)
        assert str(result.outcome.error).endswith(f"its worker was killed: {died[0].reason}")
        assert result.attempt == 1
    assert max(result.attempt for result in results) == 2


@with_processes
async def test_a_call_that_was_killed_after_its_timeout_is_retried_as_other_errors_are(
    make: Make, tmp_path: Path
) -> None:
    async with open_fleet(make(1, 1), grace=0.2, retries=1) as fleet:
        (result,) = await results_of(
            fleet, work.shield, [(str(tmp_path), 0)], timeout=0.2, retry_if=lambda error: True
        )
    assert isinstance(result.outcome, Outcome.Error)
    assert (result.attempt, len(list(tmp_path.iterdir()))) == (2, 2)


async def test_in_process_a_call_that_shields_itself_beyond_its_timeout_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def shield(worker: object, task: bool, *, attempt: int) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        if task:
            await trio.lowlevel.checkpoint()
        return "done"

    began = trio.current_time()
    async with open_fleet(InProcess(1), grace=5) as fleet:
        late, done = await results_of(fleet, shield, [True, False], timeout=1)
    assert trio.current_time() - began == 40
    assert isinstance(late.outcome, Outcome.Error)
    assert str(late.outcome.error) == "the call took longer than the timeout of its map, 1 s"
    assert done.value == "done", "a function that ends without a checkpoint was not cancelled"


async def test_calls_that_end_while_their_loop_is_blocked_end_before_their_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def wait(worker: object, task: float, *, attempt: int) -> float:
        await trio.sleep(task)
        if task == 0.5:
            autojump_clock.jump(4)  # it blocks the loop
        await trio.sleep(0.1)
        return task

    async with open_fleet(InProcess(30)) as fleet:
        results = await results_of(fleet, wait, [0.5, *[1.0] * 20, 9.0], timeout=1.5)
    outcomes = [type(result.outcome) for result in sorted(results, key=lambda result: result.number)]
    assert outcomes == [Outcome.Value] * 21 + [Outcome.Error]


async def test_time_for_which_another_call_blocks_the_loop_does_not_count_for_a_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def work(worker: object, task: tuple[str, int], *, attempt: int) -> None:
        kind, steps = task
        if kind == "blocks":
            await trio.sleep(0.5)
            autojump_clock.jump(4)
        for _ in range(steps):
            await trio.sleep(0.1)

    tasks = [("blocks", 1), ("works", 12), ("works", 40)]
    async with open_fleet(InProcess(3)) as fleet:
        results = await results_of(fleet, work, tasks, timeout=1.5)
    outcomes = [type(result.outcome) for result in sorted(results, key=lambda result: result.number)]
    assert outcomes == [Outcome.Value, Outcome.Value, Outcome.Error]
    assert trio.current_time() < 7


async def test_outcomes_are_fetched_ahead_of_a_reader_that_is_busy() -> None:
    begun = []

    async def note(worker: object, task: int, *, attempt: int) -> int:
        begun.append(task)
        return task

    async with open_fleet(InProcess(2)) as fleet:
        for prefetch, most in ((0, 3), (5, 8)):
            begun.clear()
            async with fleet.map(note, range(100), prefetch=prefetch) as results:
                await wait_all_tasks_blocked()
                assert len(begun) == most
                assert [result.value async for result in results] == list(range(100))
        with pytest.raises(ValueError, match="prefetch must be 0 or more"):
            fleet.map(note, [], prefetch=-1)
        with pytest.raises(ValueError, match="timeout"):
            fleet.map(note, [], timeout=0)


@with_processes
async def test_a_worker_that_hangs_is_killed_and_its_tasks_run_again(make: Make, tmp_path: Path) -> None:
    async with open_fleet(make(1, 2, hung_after=4)) as fleet:
        results = await results_of(fleet, work.hang, [str(tmp_path / "hung"), ""])
    assert {result.task: result.value for result in results} == {
        str(tmp_path / "hung"): "attempt 2",
        "": results[[r.task for r in results].index("")].value,
    }


@with_processes
async def test_a_call_that_does_not_end_when_it_is_cancelled_costs_its_worker_its_life(
    make: Make, tmp_path: Path
) -> None:
    note = tmp_path / "hung"
    async with open_fleet(make(1, 2, hung_after=None), grace=0.5) as fleet:
        with trio.move_on_after(50) as limit:
            async with fleet.map(work.hang, [str(note)]):
                await note_appears(note)
        assert not limit.cancelled_caught
        assert [r.value for r in await results_of(fleet, work.double, [1])] == [2]


async def test_a_fleet_that_was_left_runs_nothing() -> None:
    async with open_fleet() as fleet:
        pass
    with pytest.raises(RuntimeError, match="the fleet is closed"):
        fleet.map(work.double, [1])


@with_processes
async def test_no_worker_outlives_its_fleet(make: Make) -> None:
    async with open_fleet(make(), worker=work.open_bench) as fleet:
        pids = {r.value[0] for r in await results_of(fleet, work.count_calls, range(40))}
    with trio.fail_after(30):  # Ray's end some hundredths of a second after it has said so
        while any(map(is_there, pids)):
            await trio.sleep(0.01)
    assert pids


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@with_processes
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
async def test_an_agent_in_a_worker_inherits_what_one_of_the_driver_does(make: Make) -> None:
    """No signal that is blocked or ignored, no variable of the engine, and it is as nice."""
    async with open_fleet() as fleet:
        (mine,) = await results_of(fleet, work.say_what_is_inherited, [0])
    async with open_fleet(make(1, 1)) as fleet:
        (theirs,) = await results_of(fleet, work.say_what_is_inherited, [0])
    if make is ENGINES.get("ray"):  # the driver's own are its own
        of_ray = ("RAY_", "PYTHONBREAKPOINT")
        mine.value["environment"] = [n for n in mine.value["environment"] if not n.startswith(of_ray)]
    assert theirs.value == mine.value
    interrupt = 1 << (signal.SIGINT - 1)
    assert not interrupt & int(mine.value["SigIgn"], 16)
    assert int(mine.value["SigBlk"], 16) == 0
    assert mine.value["nice"] == os.nice(0)


@every_engine
async def test_turns_and_tokens_of_the_rollouts_are_told(make: Make, tmp_path: Path) -> None:
    async with open_fleet(make()) as fleet:
        with fleet.events() as events:
            await results_of(fleet, work.run_agent, ["a"])
            async with open_store(tmp_path) as store:
                await results_of(fleet, work.run_agent, ["a"], store=store)
        ended = [event async for event in events if isinstance(event, TaskEnded)]
    assert len(ended) == 2, "with a store, too"
    for event in ended:
        assert (event.turns, event.outcome) == (1, "value")
        assert event.input_tokens > 0
        assert event.output_tokens > 0
