"""What a store promises: what is done is done once, what is not runs again, and all of it can be read."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from tests.fleets import store_work, work
from tests.fleets.mortal import Mortal, end_worker, open_nothing
from tests.fleets.test_fleets import every_engine, results_of
from triocept import read_traces
from triocept.errors import RemoteError, StoreError
from triocept.fleets import (
    Engine,
    InProcess,
    Outcome,
    Processes,
    Result,
    open_fleet,
    open_store,
    read_results,
)
from triocept.fleets.store import places
from triocept.traces import check


async def run(
    path: Path,
    function: Any,
    tasks: Any,
    *,
    engine: Engine | None = None,
    worker: Any = None,
    settings: dict[str, Any] | None = None,
    retry_errors: bool = False,
    fsync: bool = False,
    **options: Any,
) -> list[Result[Any, Any]]:
    """What a program does that begins a run, or resumes it."""
    async with open_store(path, settings=settings, retry_errors=retry_errors, fsync=fsync) as store:
        async with open_fleet(engine or InProcess(4), worker=worker) as fleet:
            return await results_of(fleet, function, tasks, store=store, **options)


def files_of(path: Path) -> list[Path]:
    return sorted((path / "traces").iterdir())


@every_engine
async def test_what_is_done_is_not_run_again_and_what_came_new_is(
    make: Callable[[], Engine], tmp_path: Path
) -> None:
    first = await run(tmp_path / "s", work.double, [3, 4], engine=make())
    assert {result.task: result.value for result in first} == {3: 6, 4: 8}
    again = await run(tmp_path / "s", work.double, [5, 4, 3], engine=make())
    assert [(result.task, result.number, result.value) for result in again] == [(5, 0, 10)]
    stored = {result.task: result.value for result in read_results(tmp_path / "s")}
    assert stored == {3: 6, 4: 8, 5: 10}


@every_engine
async def test_a_rollout_is_recorded_in_the_file_of_its_worker(
    make: Callable[[], Engine], tmp_path: Path
) -> None:
    results = await run(tmp_path / "s", work.run_agent, ["a", "b", "c"], engine=make())
    for result in [*results, *read_results(tmp_path / "s")]:
        (trace,) = result.traces
        assert trace.sealed
        assert trace.ended == "body"
        assert trace[0].response.text == f"heard {result.task}"
        assert trace.metadata == {"fleet": {"task": result.key, "sample": 0, "attempt": 1}}
        assert [place.digest for place in result.traces.places] == [trace.digest]  # type: ignore[attr-defined]
    assert all(check(file).complete for file in files_of(tmp_path / "s"))
    assert len({trace.rollout for file in files_of(tmp_path / "s") for trace in read_traces(file)}) == 3


async def test_the_traces_of_all_results_are_read_with_each_byte_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of eight rollouts at once lie among each other in one file."""
    await run(tmp_path, store_work.two_calls_in_turns, range(24), engine=InProcess(8))
    (file,) = files_of(tmp_path)
    lines_in, read = places._lines_in, []

    def count(*args: Any) -> Iterator[bytes]:
        for data in lines_in(*args):
            read.append(len(data))
            yield data

    monkeypatch.setattr(places, "_lines_in", count)
    traces = [trace for result in read_results(tmp_path) for trace in result.traces]
    assert sum(read) == file.stat().st_size
    assert [len(trace) for trace in traces] == [2] * 24
    assert all(trace.sealed and not trace.gaps for trace in traces)
    stretches = [
        place.end - place.begin for result in read_results(tmp_path) for place in result.traces.places
    ]  # type: ignore[attr-defined]
    assert sum(stretches) > 4 * file.stat().st_size, "they do lie among each other"


async def test_a_worker_process_has_a_file_of_its_own_whose_name_no_other_gets(tmp_path: Path) -> None:
    tasks = [str(number) for number in range(8)]
    for upto in (4, 8):
        await run(tmp_path, work.run_agent, tasks[:upto], engine=Processes(2, slots_per_worker=2))
    names = [file.name for file in files_of(tmp_path)]
    assert len(names) == 4
    assert all(name.startswith(("worker-0-", "worker-1-")) for name in names)


async def test_the_endpoints_own_recorder_and_its_rollouts_metadata_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a child, with a recorder of its own and without."""
    monkeypatch.setenv("STORE_TEST", str(tmp_path))
    await run(
        tmp_path / "s",
        store_work.family,
        ["a"],
        worker=lambda: store_work.open_recorded(tmp_path / "own.jsonl"),
    )
    (result,) = read_results(tmp_path / "s")
    stored = {trace.rollout: trace for trace in result.traces}
    own = {trace.rollout: trace for trace in read_traces(tmp_path / "own.jsonl")}
    assert stored.keys() == {"parent", "child", "apart"}
    assert own.keys() == {"parent", "child"}
    assert [trace.rollout for trace in stored["parent"].children] == ["child", "apart"]
    assert stored["parent"].metadata["fleet"]
    assert (stored["parent"].metadata["seed"], stored["parent"].metadata) == (7, own["parent"].metadata)
    assert list(stored["child"]) == list(own["child"])
    assert [trace.rollout for trace in read_traces(tmp_path / "apart.jsonl")] == ["apart"]


async def test_a_recorder_of_the_user_that_fails_costs_the_store_nothing(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, store_work.two_calls, ["a"], worker=store_work.open_failing)
    assert isinstance(result.outcome, Outcome.Error)
    assert all(trace.sealed for trace in result.traces)


async def test_many_at_once_in_one_file_are_each_read_by_themselves(tmp_path: Path) -> None:
    """Their lines stand among each other's."""
    results = await run(tmp_path, store_work.two_calls, range(40), engine=InProcess(8))
    (file,) = files_of(tmp_path)
    whole = {trace.rollout: trace for trace in read_traces(file)}
    assert len(whole) == 40
    for result in results:
        (trace,) = result.traces
        assert trace == whole[trace.rollout]
        assert trace.sealed
        assert [turn.response.text for turn in trace if turn.response] == [f"{result.task} {n}" for n in "01"]


async def test_traces_are_a_sequence_that_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, store_work.two_rollouts, ["a"])
    traces = result.traces
    assert len(traces) == 2
    assert [trace.rollout for trace in traces] == ["one", "two"]
    assert all(trace.sealed for trace in traces), "also without a turn"
    assert (traces[0].rollout, traces[-1].rollout, traces[1:][0].rollout) == ("one", "two", "two")
    with pytest.raises(IndexError):
        traces[2]
    assert repr(traces) == f"<StoredTraces: 2 in {tmp_path / 'traces'}>"
    files_of(tmp_path)[0].unlink()
    assert len(traces) == 2
    with pytest.raises(StoreError, match="worker-0"):
        list(traces)


async def test_a_trace_that_was_damaged_says_so_with_its_line(tmp_path: Path) -> None:
    await run(tmp_path, store_work.two_calls, ["a", "b"], engine=InProcess(1))
    (file,) = files_of(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if n > len(lines) / 2 and b'"type":"turn"' in line)
    file.write_bytes(b"".join([*lines[:at], b" " * (len(lines[at]) - 1) + b"\n", *lines[at + 1 :]]))
    fine, broken = read_results(tmp_path)
    assert fine.traces[0].sealed
    (trace,) = broken.traces
    assert not trace.sealed
    assert "lines_missing" in {gap.name for gap in trace.gaps}
    assert {gap.line for gap in trace.gaps} <= set(range(at, len(lines) + 1)), (
        "that of its intent is the first"
    )


async def test_an_error_is_done_and_is_run_again_only_if_that_is_asked_for(tmp_path: Path) -> None:
    tasks = ["odd", "fine"]
    assert len(await run(tmp_path, work.raise_for, tasks)) == 2
    assert await run(tmp_path, work.raise_for, tasks) == []
    (odd,) = [result for result in read_results(tmp_path) if result.task == "odd"]
    assert isinstance(odd.outcome, Outcome.Error)
    assert str(odd.outcome.error) == "tests.fleets.work.Odd: 3 is odd"
    assert 'raise Odd(3, "it is")' in odd.outcome.traceback
    with pytest.raises(RemoteError):
        odd.value  # noqa: B018
    (again,) = await run(tmp_path, work.raise_for, tasks, retry_errors=True)
    assert again.task == "odd"
    assert len(list(read_results(tmp_path))) == 2, "the last one counts"
    assert len((tmp_path / "done.jsonl").read_text().splitlines()) == 3


async def test_a_task_whose_workers_died_is_not_done(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, open_fleet(Processes(1), retries=0) as fleet:
        (result,) = await results_of(fleet, work.die, ["a"], store=store)
        assert isinstance(result.outcome, Outcome.Lost)
        assert store.done == 0
    assert list(read_results(tmp_path)) == []


async def test_a_resume_begins_with_what_was_never_lost(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    begun: list[str] = []

    async def run_some(worker: object, task: str, *, attempt: int) -> str:
        begun.append(task)
        if task == "bad":
            await end_worker()
        return task

    for ordered, order in ((False, ["a", "b", "c", "bad"]), (True, ["bad", "a", "b", "c"])):
        store = tmp_path / str(ordered)
        await run(store, run_some, ["bad"], engine=Mortal(1, 1), worker=open_nothing)
        begun.clear()
        results = await run(
            store, run_some, ["bad", "a", "b", "c"], engine=Mortal(1, 1), worker=open_nothing, ordered=ordered
        )
        assert list(dict.fromkeys(begun)) == order
        assert [result.number for result in results if isinstance(result.outcome, Outcome.Lost)] == [0]
        lines = [
            msgspec.json.decode(line) for line in (store / "lost.jsonl").read_bytes().splitlines() if line
        ]
        assert [(line["attempt"], line["reason"]) for line in lines] == [
            (3, "killed, while no other task ran in this worker")
        ] * 2


async def test_of_a_task_that_was_tried_again_the_last_attempt_counts(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(5)]
    async with open_store(tmp_path / "s") as store, open_fleet(Processes(1, slots_per_worker=1)) as fleet:
        results = await results_of(fleet, store_work.die_once_in_rollout, tasks, store=store)
    assert {result.task[1]: result.attempt for result in results} == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}
    (third,) = [result for result in read_results(tmp_path / "s") if result.number == 3]
    assert [trace.metadata["fleet"]["attempt"] for trace in third.traces] == [2]  # type: ignore[index,call-overload]
    attempts = [trace for file in files_of(tmp_path / "s") for trace in read_traces(file)]
    assert sorted(trace.sealed for trace in attempts) == [False] + [True] * 5


async def test_a_rollout_that_was_cancelled_is_sealed_and_not_done(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s") as store, open_fleet() as fleet:
        async with fleet.map(store_work.note_in_rollout, [str(tmp_path / "note")], store=store):
            while not (tmp_path / "note").exists():
                await trio.sleep(0.01)
    assert list(read_results(tmp_path / "s")) == []
    (trace,) = read_traces(files_of(tmp_path / "s")[0])
    assert (trace.sealed, trace.ended) == (True, "cancelled")
    (trace_again,) = [trace for file in files_of(tmp_path / "s") for trace in read_traces(file)]
    assert trace_again.metadata["fleet"]


@every_engine
async def test_a_group_is_resumed_by_its_samples_and_given_whole(
    make: Callable[[], Engine], tmp_path: Path
) -> None:
    """One that lacks some: with those that the store has. A whole one is not given again."""
    async with open_store(tmp_path) as store, open_fleet(make()) as fleet:
        first = await results_of(fleet, store_work.sample_of, ["a"], store=store, group_size=2)
        assert sorted((result.sample, result.value) for result in first) == [(0, "a 0"), (1, "a 1")]
        lines = [json.loads(line) for line in (tmp_path / "done.jsonl").read_text().splitlines()]
        assert sorted(line["sample"] for line in lines) == [0, 1]
        async with fleet.map(store_work.sample_of, ["a", "b"], store=store, group_size=3) as results:
            groups = [group async for group in results.groups()]
        assert {group.task: [result.value for result in group.results] for group in groups} == {
            "a": ["a 0", "a 1", "a 2"],
            "b": ["b 0", "b 1", "b 2"],
        }
        assert all(group.complete for group in groups)
        async with fleet.map(store_work.sample_of, ["a", "b"], store=store, group_size=3) as results:
            assert [group async for group in results.groups()] == []
        assert results.skipped == 6
    stored = list(read_results(tmp_path))
    assert sorted((result.task, result.sample) for result in stored) == [
        (t, n) for t in "ab" for n in range(3)
    ]
    ran = [trace.metadata["fleet"] for file in files_of(tmp_path) for trace in read_traces(file)]
    assert len(ran) == 6


async def test_a_group_of_the_store_is_that_of_its_task_wherever_that_stands_now(tmp_path: Path) -> None:
    """And whether or not it was a group before."""
    async with open_store(tmp_path) as store, open_fleet() as fleet:
        await results_of(fleet, store_work.sample_of, ["a", "b"], store=store)
        async with fleet.map(store_work.sample_of, ["c", "b", "a"], store=store, group_size=2) as results:
            groups = [group async for group in results.groups()]
    assert {group.task: [result.value for result in group.results] for group in groups} == {
        name: [f"{name} 0", f"{name} 1"] for name in "abc"
    }
    assert {(result.group, result.number) for group in groups for result in group.results} == {
        (group, 2 * group + sample) for group in range(3) for sample in range(2)
    }


async def test_a_sample_of_a_stopped_group_does_not_run_when_the_run_is_resumed(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_store(tmp_path) as store, open_fleet(InProcess(2)) as fleet:
            async with fleet.map(
                store_work.sample_of, ["a"], store=store, group_size=4, stop_group=lambda results: True
            ) as results:
                seen = [type(result.outcome) async for result in results]
    assert seen == []
    kinds = [type(result.outcome) for result in read_results(tmp_path)]
    assert len(kinds) == 4
    assert Outcome.Stopped in kinds


async def test_in_order_and_one_by_one_the_rest_comes_as_it_was_given(tmp_path: Path) -> None:
    async def tasks() -> AsyncIterator[int]:
        for task in range(20):
            yield task

    await run(tmp_path, work.double, range(0, 20, 3))
    results = await run(tmp_path, work.double, tasks(), ordered=True)
    assert [result.task for result in results] == [task for task in range(20) if task % 3]
    assert [result.number for result in results] == [result.task for result in results]


async def test_rollouts_of_a_fleet_in_a_fleet_are_in_the_store_of_the_outer_one(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, store_work.nested, ["a"])
    assert {trace.rollout for trace in result.traces} == {"outer", "inner-0", "inner-1"}
    assert all(trace.sealed for trace in result.traces)
    assert {trace.metadata["fleet"]["task"] for trace in result.traces} == {result.key}  # type: ignore[index,call-overload]


async def test_a_pool_of_a_worker_is_recorded_too(tmp_path: Path) -> None:
    results = await run(tmp_path, store_work.two_calls, ["a", "b"], worker=store_work.open_pool)
    assert all(trace.sealed and len(trace) == 2 for result in results for trace in result.traces)


async def test_scores_are_in_the_result(tmp_path: Path) -> None:
    (given,) = await run(tmp_path, store_work.score, ["a"])
    (stored,) = read_results(tmp_path)
    assert given.scores == stored.scores == {"reward": 0.5}
    async with open_fleet() as fleet:
        (without,) = await results_of(fleet, store_work.score, ["a"])
    assert without.scores == {"reward": 0.5}
    assert without.key is None


# What tells a task from others


@dataclasses.dataclass
class Problem:
    id: object
    text: str


@pytest.mark.parametrize(("task", "key"), [
    ({"id": "x1", "text": "t"}, "x1"),
    ({"id": 7}, "7"),
    (Problem("p", "t"), "p"),
    (Problem(UUID(int=1), "t"), "00000000-0000-0000-0000-000000000001"),
])  # fmt: skip
async def test_a_task_with_an_id_is_known_by_it(task: object, key: str, tmp_path: Path) -> None:
    (result,) = await run(tmp_path, store_work.ignore, [task])
    assert result.key == key


async def test_any_other_is_known_by_what_it_says_in_whatever_order(tmp_path: Path) -> None:
    await run(tmp_path, store_work.ignore, [{"a": 1, "b": Path("x")}, {"id": None, "c": [2]}])
    assert await run(tmp_path, store_work.ignore, [{"c": [2], "id": None}, {"b": Path("x"), "a": 1}]) == []
    assert len(await run(tmp_path, store_work.ignore, [{"a": 1, "b": Path("y")}])) == 1


async def test_a_key_of_the_user_tells_alone(tmp_path: Path) -> None:
    lock = threading.Lock()
    first = await run(tmp_path, store_work.ignore, [(1, lock), (2, lock)], key=lambda task: task[0])
    assert [result.key for result in first] == ["1", "2"]
    assert [result.task for result in read_results(tmp_path)] == [None, None]
    again = await run(tmp_path, store_work.ignore, [(2, "else"), (3, lock)], key=lambda task: task[0])
    assert [result.key for result in again] == ["3"]


async def test_a_task_that_changed_under_its_id_is_told_and_not_skipped(tmp_path: Path) -> None:
    await run(tmp_path, store_work.ignore, [{"id": 1, "text": "old"}])
    with pytest.raises(
        StoreError, match=r"task '1' \(task 1\) differs from the task that is stored under this id"
    ):
        await run(tmp_path, store_work.ignore, [{"id": 2}, {"id": 1, "text": "new"}])
    assert len(list(read_results(tmp_path))) == 1, "it is said before one runs"


BAD_TASKS: list[tuple[list[Any], Any, str]] = [
    ([{"id": "a"}, {"id": "b"}, {"id": "a"}], StoreError, r"task 2 has the same key as task 0: 'a'"),
    (["a", "b", "a"], StoreError, r"task 2 has the same key as task 0: 'sha256:"),
    (["a", threading.Lock()], TypeError, r"task 1 is not JSON: .*lock.*task 1 has no key for a resumed run"),
    (["a", float("nan")], TypeError, r"task 1 is not JSON: .*this value is not a finite number"),
    ([{"id": ["x"]}], TypeError, r"task 0: a key must be a text or a whole number, but its id is list"),
    ([{"id": True}], TypeError, r"task 0: a key must be a text or a whole number, but its id is bool"),
]


@pytest.mark.parametrize(("tasks", "kind", "text"), BAD_TASKS)
async def test_a_task_without_a_key_of_its_own_is_said_before_one_runs(
    tasks: list[Any], kind: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=text):
        await run(tmp_path / "s", store_work.ignore, tasks)
    assert list(read_results(tmp_path / "s")) == []
    assert files_of(tmp_path / "s") == []


async def test_of_tasks_that_come_one_by_one_it_is_said_when_it_comes(tmp_path: Path) -> None:
    async def tasks() -> AsyncIterator[str]:
        for task in ("a", "b", "a", "c"):
            yield task

    seen = []
    async with open_store(tmp_path) as store, open_fleet() as fleet:
        with pytest.raises(StoreError, match="task 2 has the same key as task 0"):
            async with fleet.map(store_work.ignore, tasks(), store=store) as results:
                async for result in results:
                    seen.append(result.task)  # noqa: PERF401 - those before the error, too
    assert sorted(seen) == ["a", "b"]
    assert len(list(read_results(tmp_path))) == 2


async def test_a_key_wants_a_store() -> None:
    async with open_fleet() as fleet:
        with pytest.raises(TypeError, match="key= needs a store"):
            fleet.map(store_work.ignore, ["a"], key=str)


# What a function returns


async def test_what_json_says_is_kept_as_json(tmp_path: Path) -> None:
    given = await run(tmp_path, store_work.give_values, ["struct", "path", "half", "none"])
    assert {result.task: type(result.value) for result in given}["struct"] is store_work.Answer
    assert {result.task: result.value for result in read_results(tmp_path)} == {
        "struct": {"text": "t", "size": 3},
        "path": "a/b",
        "half": "\N{REPLACEMENT CHARACTER}",
        "none": None,
    }


@every_engine
@pytest.mark.parametrize(
    ("task", "why"),
    [("nan", r"\['reward'\] is not a finite number"), ("lock", r"it contains a _thread\.lock")],
)
async def test_what_is_no_json_is_an_error_of_its_task(
    task: str, why: str, make: Callable[[], Engine], tmp_path: Path
) -> None:
    results = await run(tmp_path, store_work.give_values, [task, "none"], engine=make())
    (bad,) = [result for result in results if result.task == task]
    assert isinstance(bad.outcome, Outcome.Error)
    with pytest.raises(TypeError, match=rf"the function's return value, .*keeps, is not JSON: .*{why}"):
        raise bad.outcome.error
    assert len(list(read_results(tmp_path))) == 2


# Who may have it


async def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        with pytest.raises(StoreError, match=rf"another program uses the store \(pid {os.getpid()} on "):
            async with open_store(tmp_path):
                raise AssertionError
    async with open_store(tmp_path):
        pass


async def test_it_is_one_maps_at_a_time(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, open_fleet() as fleet:
        async with fleet.map(work.double, [1], store=store):
            with pytest.raises(StoreError, match="another map is using the store"):
                async with fleet.map(work.double, [2], store=store):
                    raise AssertionError
        assert len(await results_of(fleet, work.double, [3], store=store)) == 1
    async with open_fleet() as fleet:
        with pytest.raises(StoreError, match="the store is closed: its block has ended"):
            fleet.map(work.double, [1], store=store)


async def test_a_store_that_is_closed_under_a_map_ends_it(tmp_path: Path) -> None:
    async with open_fleet() as fleet:
        with pytest.raises(StoreError, match="the store was closed while"):
            async with open_store(tmp_path) as store:
                context = fleet.map(store_work.slow_double, [1, 2], store=store)
                results = await context.__aenter__()
            try:
                async for _ in results:
                    raise AssertionError
            finally:
                await context.__aexit__(None, None, None)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (lambda path: (path / "run.json").write_text(
      (path / "run.json").read_text().replace('"format": 1', '"format": 2')),
     r"s: the store was written by a newer triocept: its format is 2, and this version reads formats up to 1"),
    "another thing": (lambda path: (path / "run.json").write_text("{}"),
     r"the run.json of the store cannot be read: .*`what`"),
    "broken": (lambda path: (path / "run.json").write_text("{"), r"the run.json of the store cannot be read: "),
    "damaged line": (
     lambda path: (path / "done.jsonl").write_bytes(b"{}\n" + (path / "done.jsonl").read_bytes()),
     r"s/done.jsonl:1: this line does not belong to a store: .*if you remove the line, its task runs again"),
    "damaged task": (lambda path: (path / "done.jsonl").write_bytes(
      (path / "done.jsonl").read_bytes().partition(b',"task":')[0] + b',"task":"\xff"}\n'),
     r"s/done.jsonl:1: this line does not belong to a store: .*(?i:utf-8)"),
    "a member of a line": (lambda path: (path / "done.jsonl").write_text(
      (path / "done.jsonl").read_text().replace('"worker"', '"walker"')),
     r"s/done.jsonl:1: this line does not belong to a store: .*`worker`"),
    "no run.json": (lambda path: (path / "run.json").unlink(),
     r"s: the directory is neither a store nor empty: it contains done.jsonl; use an empty or a new directory"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_store_of_ours_is_refused_in_words_and_left_as_it_is(
    what: str, tmp_path: Path
) -> None:
    spoil, text = REFUSED[what]
    path = tmp_path / "s"
    await run(path, work.double, [1, 2])
    spoil(path)
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    with pytest.raises(StoreError, match=text):
        await run(path, work.double, [1, 2, 3])
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before


async def test_a_store_of_another_run_is_refused(tmp_path: Path) -> None:
    await run(tmp_path, work.double, [1], settings={"model": "a", "tries": [1, 2]})
    with pytest.raises(
        StoreError,
        match=r"this store belongs to another run: its setting model is 'a', not 'b'; use another directory",
    ):
        await run(tmp_path, work.double, [1], settings={"model": "b", "tries": [1, 2]})
    with pytest.raises(
        StoreError, match=r"this store belongs to another run: its setting model is 'a', not unset"
    ):
        await run(tmp_path, work.double, [1])
    with pytest.raises(StoreError, match=r"it contains results of the function 'double', not of 'ignore'"):
        await run(tmp_path, store_work.ignore, [1], settings={"model": "a", "tries": [1, 2]})
    assert await run(tmp_path, work.double, [1], settings={"tries": [1, 2], "model": "a"}) == []
    with pytest.raises(TypeError, match=r"settings: `model` cannot be written as JSON"):
        await run(tmp_path, work.double, [1], settings={"model": threading.Lock()})


async def test_a_directory_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(
        StoreError, match=r"the directory is neither a store nor empty: it contains thesis\.tex"
    ):
        await run(tmp_path, work.double, [1])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StoreError, match=r"thesis\.tex: a store must be a directory, but this is a file"):
        await run(tmp_path / "thesis.tex", work.double, [1])
    with pytest.raises(StoreError, match=r"the directory is not a store: it contains no run\.json"):
        read_results(tmp_path)


async def test_what_was_left_by_a_driver_that_was_killed_at_its_first_breath_is_begun_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / "lock").write_text("")
    (tmp_path / "run.json.part").write_text('{"wh')
    assert len(await run(tmp_path, work.double, [1])) == 1


async def test_a_line_that_was_cut_costs_its_task_another_run_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run(tmp_path, work.double, [1, 2, 3], engine=InProcess(1))
    done = tmp_path / "done.jsonl"
    done.write_bytes(done.read_bytes()[:-5])
    assert [result.task for result in read_results(tmp_path)] == [1, 2]
    assert [result.task for result in await run(tmp_path, work.double, [1, 2, 3])] == [3]
    assert "done.jsonl was cut off" in caplog.text
    assert [result.task for result in read_results(tmp_path)] == [1, 2, 3]


# Disks


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Files that can have so many bytes and no more: a write beyond that is an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_is_said_before_anything_runs(
    small_files: Callable[[int], None], tmp_path: Path
) -> None:
    small_files(20_000)
    with pytest.raises(OSError, match=rf"{tmp_path.name}"):
        await run(tmp_path, work.double, [1])
    assert files_of(tmp_path) == []


async def test_a_trace_that_cannot_be_recorded_ends_the_map_and_is_not_done(
    small_files: Callable[[int], None], tmp_path: Path
) -> None:
    """It is no error of its function, which a resumed run would leave as it is."""
    small_files(70_000)
    seen = []
    async with open_store(tmp_path) as store, open_fleet(InProcess(1)) as fleet:
        with pytest.raises(StoreError, match=r"worker 0 could not record task \d+: .*File too large"):
            async with fleet.map(store_work.two_calls, range(100), store=store) as results:
                async for result in results:
                    seen.append(result.task)  # noqa: PERF401 - those before the error, too
    assert 0 < len(seen) < 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [result.task for result in read_results(tmp_path)] == seen
    rest = await run(tmp_path, store_work.two_calls, range(100))
    assert sorted([*seen, *(result.task for result in rest)]) == list(range(100))
    assert all(trace.sealed for result in read_results(tmp_path) for trace in result.traces)


async def test_nor_is_it_done_where_the_function_makes_nothing_of_it(
    small_files: Callable[[int], None], tmp_path: Path
) -> None:
    small_files(70_000)
    with pytest.raises(StoreError, match=r"worker 0 could not record task \d+: .*File too large"):
        await run(tmp_path, store_work.two_calls_come_what_may, range(100), engine=InProcess(4))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert all(len(result.traces[0]) == 2 for result in read_results(tmp_path))


async def test_results_that_would_be_nowhere_end_the_map(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, open_fleet(InProcess(1)) as fleet:
        with pytest.raises(
            StoreError, match=r"done\.jsonl: another program removed or changed the file while"
        ):
            async with fleet.map(store_work.slow_double, range(5), store=store) as results:
                async for _ in results:
                    (tmp_path / "done.jsonl").unlink()
                    (tmp_path / "done.jsonl").write_text("")


async def test_a_result_that_cannot_be_kept_ends_the_map(
    small_files: Callable[[int], None], tmp_path: Path
) -> None:
    small_files(70_000)
    with pytest.raises(OSError, match=r"done\.jsonl"):
        await run(tmp_path, store_work.give_much, range(100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept = {result.task for result in read_results(tmp_path)}
    assert 0 < len(kept) < 100
    rest = await run(tmp_path, store_work.give_much, range(100))
    assert kept.isdisjoint({result.task for result in rest})
    assert len(list(read_results(tmp_path))) == 100


async def test_a_worker_that_has_another_disk_says_so(tmp_path: Path) -> None:
    await run(tmp_path / "s", work.double, [0])
    async with open_store(tmp_path / "s") as store, open_fleet(Processes(1)) as fleet:
        (tmp_path / "s").rename(tmp_path / "t")
        with pytest.raises(
            StoreError,
            match=r"could not record task 0: .*s: there is no such directory; name",
        ):
            await results_of(fleet, work.double, [1], store=store)


async def test_with_fsync_a_trace_is_on_the_disk_before_its_result_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(os, "fsync", fsync)
    await run(tmp_path, store_work.two_calls, ["a"], fsync=True)
    (file,) = files_of(tmp_path)
    assert synced[-3:] == [file.name, "traces", "done.jsonl"]
