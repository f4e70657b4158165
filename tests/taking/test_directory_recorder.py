"""A recorder that gives each rollout a file of its own, under another name when it has ended."""

import copy
import errno
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from triocept import Endpoint, Exchange, Rollout, read_traces, serve_endpoint
from triocept.traces import DirectoryRecorder, Entry, JSONLRecorder, Trace, check, lease_traces

from .directories import names

ROOT = Path(__file__).parents[2]


async def answer(exchange: Exchange) -> None:
    await exchange.respond("hi")


async def taken(directory: Path) -> list[Trace]:
    """All that a trainer gets, and is done with."""
    async with lease_traces(directory, wait=False) as lease:
        found = [trace async for trace in lease]
        lease.acknowledge(*found)
    return found


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


async def one_run(endpoint: Endpoint, name: str) -> Rollout:
    async with endpoint.open_rollout(answer, id=name, metadata={"task": name}) as rollout:
        await rollout.ask("hello")
        await rollout.score("reward", 0.5)
    return rollout


async def test_each_rollout_has_a_file_of_its_own_that_is_there_to_be_taken_when_it_has_ended(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    async with serve_endpoint(recorder=DirectoryRecorder(runs)) as endpoint:
        assert files(runs) == []
        async with endpoint.open_rollout(answer, id="one") as one:
            await one.ask("hello")
            assert files(runs) == [f"one.{one.trace.run}.jsonl.open"]
            assert await taken(runs) == []
            async with endpoint.open_rollout(answer, id="other") as other:
                await other.ask("hello")
            assert names(runs) == ["other"]
        assert names(runs) == ["one", "other"]
        found = await taken(runs)
    assert sorted(found, key=lambda trace: trace.rollout) == [one.trace, other.trace]
    assert [check(path).gaps for path in (runs / "taken").iterdir()] == [()] * 2


async def test_what_a_rollout_was_given_and_its_scores_are_in_its_file(tmp_path: Path) -> None:
    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        await one_run(endpoint, "one")
    (trace,) = await taken(tmp_path)
    assert (trace.metadata, trace.scores, trace.ended) == ({"task": "one"}, {"reward": 0.5}, "body")


async def test_the_rollouts_of_one_name_have_different_files_whatever_it_is(tmp_path: Path) -> None:
    name = "a" * 124 + "-b.c"
    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        await one_run(endpoint, name)
        await one_run(endpoint, name)
    assert [trace.rollout for trace in await taken(tmp_path)] == [name, name]


async def test_children_are_in_the_file_of_their_parent_and_are_taken_with_it(tmp_path: Path) -> None:
    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        async with endpoint.open_rollout(answer, id="parent") as parent:
            async with parent.open_child(answer, id="child") as child, child.open_child(answer) as grandchild:
                await grandchild.ask("hello")
                await child.ask("hello")
            assert names(tmp_path) == []
            await child.score("reward", 1)
            await parent.ask("hello")
        assert names(tmp_path) == ["parent"]
        (trace,) = await taken(tmp_path)
    assert trace == parent.trace
    (found,) = trace.children
    assert (found.rollout, found.scores, len(found.children)) == ("child", {"reward": 1.0}, 1)
    assert found.sealed


async def test_a_family_of_which_a_child_misses_something_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its parent alone is sealed."""
    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        async with endpoint.open_rollout(answer, id="parent") as parent:
            async with parent.open_child(answer, id="child") as child:
                await child.ask("hello")
            await parent.ask("hello")
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not (b'"turn"' in line and b'"child"' in line)))
    assert [trace.sealed for trace in read_traces(path, on_damage=print)] == [True, False]
    assert await taken(tmp_path) == []
    assert names(tmp_path / "damaged") == ["parent"]
    assert "is incomplete" in caplog.text


async def test_a_child_whose_parent_is_recorded_elsewhere_has_a_file_of_its_own(tmp_path: Path) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(tmp_path / "all.txt")) as endpoint:
        async with endpoint.open_rollout(answer, id="parent") as parent:
            recorder = DirectoryRecorder(tmp_path)
            async with parent.open_child(answer, id="child", recorder=recorder) as child:
                await child.ask("hello")
            assert names(tmp_path) == ["child"]


async def test_a_score_after_the_end_is_in_the_file_as_long_as_nobody_has_taken_it(tmp_path: Path) -> None:
    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        rollout = await one_run(endpoint, "one")
        await rollout.score("late", 2)
    await rollout.score("after the endpoint", 3)
    assert names(tmp_path) == ["one"]
    async with lease_traces(tmp_path, wait=False) as lease:
        trace = await anext(lease)
        with pytest.raises(RuntimeError, match="rollout one is no longer in"):
            await rollout.score("too late", 4)
        lease.acknowledge(trace)
    with pytest.raises(RuntimeError, match="before its block ends"):
        await rollout.score("too late", 4)
    assert trace.scores == {"reward": 0.5, "late": 2, "after the endpoint": 3}
    assert "too late" not in rollout.trace.scores
    assert files(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
async def test_a_late_score_is_written_with_links_and_without(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them the file is there to be taken all the time: a program that is killed meanwhile does not lose it."""

    def no_link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    seen: list[list[str]] = []
    recorded = JSONLRecorder.record_entry

    async def record_entry(recorder: JSONLRecorder, entry: Entry) -> None:
        seen.append(files(tmp_path))
        await recorded(recorder, entry)

    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        rollout = await one_run(endpoint, "one")
        if not links:
            monkeypatch.setattr(os, "link", no_link)
        monkeypatch.setattr(JSONLRecorder, "record_entry", record_entry)
        await rollout.score("late", 2)
    name = f"one.{rollout.trace.run}.jsonl"
    assert seen == [[name, f"{name}.open"] if links else [f"{name}.open"]]
    assert files(tmp_path) == [name]
    assert [trace.scores for trace in await taken(tmp_path)] == [{"reward": 0.5, "late": 2}]


async def test_it_forgets_a_rollout_whose_trace_nobody_has_any_more(tmp_path: Path) -> None:
    recorder = DirectoryRecorder(tmp_path)
    async with serve_endpoint(recorder=recorder) as endpoint:
        for _ in range(3):
            rollout = await one_run(endpoint, "one")
        assert recorder._files == {}
        await trio.lowlevel.checkpoint()
    del rollout, endpoint
    gc.collect()
    assert recorder._ended == {}


async def test_a_trainer_beside_the_rollouts_gets_each_trace_as_it_ends(tmp_path: Path) -> None:
    got: list[str] = []

    async def train() -> None:
        async with lease_traces(tmp_path) as lease:
            async for trace in lease:
                got.append(trace.rollout)
                lease.acknowledge(trace)

    async with serve_endpoint(recorder=DirectoryRecorder(tmp_path)) as endpoint:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            nursery.start_soon(train)
            for number in range(20):
                await one_run(endpoint, f"r{number}")
            while len(got) < 20:
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert sorted(got) == sorted(f"r{number}" for number in range(20))


PROGRAM = """
import sys, trio
from triocept import serve_endpoint
from triocept.traces import DirectoryRecorder

async def answer(exchange):
    await exchange.respond("hi")

async def main():
    async with serve_endpoint(recorder=DirectoryRecorder(sys.argv[1])) as endpoint:
        async with endpoint.open_rollout(answer, id="one") as rollout:
            await rollout.ask("hello")
            print("recorded", flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


async def test_what_a_program_that_was_killed_has_left_is_not_taken_and_can_be_read(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert await trio.to_thread.run_sync(program.stdout.readline) == "recorded\n"
        finally:
            program.send_signal(signal.SIGKILL)
    assert await taken(tmp_path) == []
    (path,) = tmp_path.glob("*.open")
    (trace,) = read_traces(path)
    assert (len(trace), trace.sealed) == (1, False)


async def test_a_directory_that_cannot_be_is_found_before_there_is_an_agent(tmp_path: Path) -> None:
    for directory in (tmp_path / "no" / "such", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=directory.name):
            async with serve_endpoint(recorder=DirectoryRecorder(directory)):
                raise AssertionError("it was opened")


async def test_a_rollout_that_could_not_be_written_to_its_end_is_forgotten_like_any_other(
    tmp_path: Path,
) -> None:
    recorder = DirectoryRecorder(tmp_path / "runs")
    async with serve_endpoint(recorder=recorder) as endpoint:
        with pytest.raises(FileNotFoundError):
            async with endpoint.open_rollout(answer) as rollout:
                shutil.rmtree(tmp_path / "runs")
        with pytest.raises(RuntimeError, match="or was never sealed"):
            await rollout.score("reward", 1.0)
        del rollout
        gc.collect()
        assert (recorder._files, recorder._ended) == ({}, {})


def test_a_copy_has_the_directory() -> None:
    recorder = DirectoryRecorder("runs", fsync=True)
    for other in (copy.copy(recorder), pickle.loads(pickle.dumps(recorder))):
        assert other.directory == Path("runs").absolute()
        assert other._fsync
    assert repr(recorder) == "DirectoryRecorder('runs')"
