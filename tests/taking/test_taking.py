"""Leases of traces: each sealed trace goes to one lease, which acknowledges it, exactly once."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.trace.later import write_as_later
from triocept import DialectError, Trace
from triocept._trace.directory import Claim
from triocept.traces import TraceLease, lease_traces

from .directories import fill, names, put

ROOT = Path(__file__).parents[2]


async def all_of(lease: TraceLease) -> list[Trace]:
    return [trace async for trace in lease]


async def test_what_is_acknowledged_is_given_to_nobody_any_more(tmp_path: Path) -> None:
    given = await fill(tmp_path, 3)
    async with lease_traces(tmp_path, wait=False) as lease:
        found = await all_of(lease)
        assert [trace.run for trace in found] == given, "the oldest first"
        assert all(trace.sealed for trace in found)
        lease.acknowledge(*found)
    async with lease_traces(tmp_path, wait=False) as lease:
        assert await all_of(lease) == []
    assert names(tmp_path) == []
    assert names(tmp_path / "taken") == given


async def test_a_trace_that_this_version_cannot_read_is_put_aside_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        write_as_later(patched, b'"dialect":', b'"dialect":0,"later":')
        await fill(tmp_path, 1)
    async with lease_traces(tmp_path, wait=False) as lease:
        assert await all_of(lease) == []
    assert names(tmp_path / "damaged") == ["t000"]
    assert "request_unreadable of rollout r" in caplog.text


async def test_no_two_leases_have_a_trace_at_once(tmp_path: Path) -> None:
    given = await fill(tmp_path, 4)
    async with lease_traces(tmp_path, wait=False) as one, lease_traces(tmp_path, wait=False) as other:
        mine = [await anext(one), await anext(one)]
        theirs = await all_of(other)
        assert await all_of(one) == []
    assert sorted(trace.run for trace in [*mine, *theirs]) == given


@pytest.mark.parametrize("how", ["leaves", "raises", "is cancelled"])
async def test_what_is_not_acknowledged_is_given_back_however_its_lease_ends(
    tmp_path: Path, how: str
) -> None:
    await fill(tmp_path, 3)
    with trio.CancelScope() as scope:
        try:
            async with lease_traces(tmp_path, wait=False) as lease:
                first, *_ = await all_of(lease)
                lease.acknowledge(first)
                if how == "raises":
                    raise OSError("the trainer is out of memory")
                if how == "is cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
        except OSError as exc:
            assert how == "raises", exc
    assert names(tmp_path) == ["t001", "t002"]
    async with lease_traces(tmp_path, wait=False) as lease:
        assert [trace.run for trace in await all_of(lease)] == ["t001", "t002"]


async def test_a_lease_that_waits_gets_what_comes_and_what_others_give_back(tmp_path: Path) -> None:
    await put(tmp_path, "early")
    got: list[str] = []

    async def take_forever(count: int) -> None:
        async with lease_traces(tmp_path) as lease:
            async for trace in lease:
                got.append(trace.run)
                lease.acknowledge(trace)
                if len(got) == count:
                    return

    async with lease_traces(tmp_path) as holder:
        await anext(holder)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_forever, 2)
            await trio.sleep(0.05)
            assert got == []
            await put(tmp_path, "late")
            while not got:
                await trio.sleep(0.01)
            assert got == ["late"]
            holder._close()  # as its block does
    assert got == ["late", "early"]


async def test_a_wait_is_cancelled_and_nothing_is_lost(tmp_path: Path) -> None:
    async with lease_traces(tmp_path) as lease:
        with trio.move_on_after(0.05):
            await anext(lease)
        await put(tmp_path, "late")
        assert (await anext(lease)).run == "late"


async def test_a_trace_whose_reading_is_cancelled_is_given_back(tmp_path: Path) -> None:
    await put(tmp_path, "one")
    async with lease_traces(tmp_path) as lease:
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(lease)
        assert scope.cancelled_caught
        async with lease_traces(tmp_path, wait=False) as other:
            assert [trace.run for trace in await all_of(other)] == ["one"]


async def test_what_another_has_done_with_while_we_were_opening_it_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is free, but the path leads to it no more."""
    await put(tmp_path, "one")
    path = tmp_path / "one.run.jsonl"
    lock = fcntl.flock

    def lock_late(fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            (tmp_path / "taken").mkdir()
            path.rename(tmp_path / "taken" / path.name)
        lock(fd, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lock_late)
        assert Claim.of(path) is None
    assert Claim.of(tmp_path / "gone.jsonl") is None
    await put(tmp_path, "one")
    claim = Claim.of(path)
    assert claim is not None, "the next one of its name is another"
    claim.give_back()


async def test_one_that_is_not_whole_is_put_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await put(tmp_path, "cut", sealed=False)
    await put(tmp_path, "whole")
    (tmp_path / "empty.run.jsonl").touch()
    with caplog.at_level(logging.WARNING, "triocept.trace"):
        async with lease_traces(tmp_path, wait=False) as lease:
            assert [trace.run for trace in await all_of(lease)] == ["whole"]
    assert names(tmp_path / "damaged") == ["cut", "empty"]
    assert len(caplog.records) == 2


async def test_a_file_that_is_none_of_ours_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    async with lease_traces(tmp_path, wait=False) as lease:
        with pytest.raises(DialectError, match=r"other\.jsonl"):
            await anext(lease)
        claim = Claim.of(tmp_path / "other.jsonl")
        assert claim is not None, "it was given back"
        claim.give_back()
    assert names(tmp_path) == ["other"]


async def test_only_what_was_taken_can_be_acknowledged_and_only_once(tmp_path: Path) -> None:
    await fill(tmp_path, 2)
    async with lease_traces(tmp_path, wait=False) as lease:
        one, other = await all_of(lease)
        with pytest.raises(ValueError, match="the trace was already acknowledged"):
            lease.acknowledge(one, Trace("r"))
        assert names(tmp_path) == ["t000", "t001"]
        lease.acknowledge(one)
        with pytest.raises(ValueError, match="already acknowledged"):
            lease.acknowledge(one)
        lease.acknowledge(other)
    with pytest.raises(trio.ClosedResourceError):
        await anext(lease)


async def test_what_is_given_wrongly_is_said_before_the_body_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        async with lease_traces(tmp_path / "nowhere"):
            raise AssertionError("there is no such directory")
    with pytest.raises(TypeError, match="directory"):
        async with lease_traces(5):  # type: ignore[arg-type]
            raise AssertionError("that is no path")


async def test_a_lease_that_waits_reads_the_directory_when_it_changes_and_hardly_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    old = 1_000_000_000_000_000_000
    os.utime(tmp_path, ns=(old, old))
    looks = 0
    original = TraceLease._look

    def look(lease: TraceLease) -> None:
        nonlocal looks
        looks += 1
        original(lease)

    monkeypatch.setattr(TraceLease, "_look", look)
    async with lease_traces(tmp_path) as lease:
        with trio.move_on_after(65):
            await anext(lease)
    assert looks == 3, "half a minute is time enough"


async def test_what_comes_and_does_not_change_the_time_of_the_directory_is_seen_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where that is another machine's clock, which is coarse, and behind ours."""
    monkeypatch.setattr("triocept._tracefiles.lease.ALL", 0.5)
    old = 1_000_000_000_000_000_000
    os.utime(tmp_path, ns=(old, old))
    async with lease_traces(tmp_path) as lease:
        with trio.move_on_after(0.2):
            await anext(lease)
        await put(tmp_path, "one")
        os.utime(tmp_path, ns=(old, old))
        assert (await anext(lease)).run == "one"


async def test_one_that_cannot_be_put_aside_is_given_back(tmp_path: Path) -> None:
    await put(tmp_path, "cut", sealed=False)
    (tmp_path / "damaged").touch()
    async with lease_traces(tmp_path, wait=False) as lease:
        with pytest.raises(FileExistsError):
            await anext(lease)
        claim = Claim.of(tmp_path / "cut.run.jsonl")
        claim.give_back()


async def test_what_is_given_back_is_free_though_a_process_was_forked_meanwhile(tmp_path: Path) -> None:
    """One that loads data for the trainer, say, and lives on: it has the lock too."""
    await put(tmp_path, "one")
    async with lease_traces(tmp_path, wait=False) as lease:
        await anext(lease)
        held = os.dup(next(iter(lease._claims.values()))[1]._fd or 0)
    try:
        async with lease_traces(tmp_path, wait=False) as lease:
            assert [trace.run for trace in await all_of(lease)] == ["one"]
    finally:
        os.close(held)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
async def test_all_is_given_back_whatever_becomes_of_the_time_of_the_directory(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = await fill(tmp_path, 2)

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    async with lease_traces(tmp_path, wait=False) as lease:
        await all_of(lease)
        monkeypatch.setattr(os, "utime", fail)
    async with lease_traces(tmp_path, wait=False) as lease:
        assert [trace.run for trace in await all_of(lease)] == given


async def test_tasks_that_share_a_lease_get_different_traces(tmp_path: Path) -> None:
    given = await fill(tmp_path, 12)
    got: list[str] = []
    async with lease_traces(tmp_path, wait=False) as lease:

        async def work() -> None:
            async for trace in lease:
                got.append(trace.run)
                lease.acknowledge(trace)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
    assert sorted(got) == given
    assert names(tmp_path) == []


async def test_a_lock_that_goes_without_a_word_is_noticed_though_the_directory_is_as_it_was(
    tmp_path: Path,
) -> None:
    """As it does with a process that is killed."""
    await put(tmp_path, "one")
    claim = Claim.of(tmp_path / "one.run.jsonl")
    old = 1_000_000_000_000_000_000
    os.utime(tmp_path, ns=(old, old))
    async with lease_traces(tmp_path) as lease:
        with trio.move_on_after(0.3):
            await anext(lease)
        claim._close()
        assert tmp_path.stat().st_mtime_ns == old
        assert (await anext(lease)).run == "one"


WORKER = """
import os, sys, trio
from pathlib import Path
from triocept.traces import lease_traces

async def main(directory, log, mode):
    async with lease_traces(directory) as lease:
        async for trace in lease:
            if mode == "hold":
                print("holds", trace.run, flush=True)
                await trio.sleep_forever()
            with open(log, "a") as file:
                file.write(trace.run + "\\n")
            lease.acknowledge(trace)

trio.run(main, *sys.argv[1:])
"""


def start(directory: Path, log: Path, mode: str) -> subprocess.Popen[str]:
    """A lease in a process of its own."""
    argv = [sys.executable, "-c", WORKER, str(directory), str(log), mode]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True)


async def test_each_trace_is_acknowledged_once_by_several_processes_though_one_is_killed(
    tmp_path: Path,
) -> None:
    """The one that is killed (SIGKILL) has one of them in hand: another one gets that."""
    directory, log = tmp_path / "runs", tmp_path / "log"
    directory.mkdir()
    given = await fill(directory, 30)
    workers: list[subprocess.Popen[str]] = []
    try:
        workers.append(killed := start(directory, log, "hold"))
        line = await trio.to_thread.run_sync(killed.stdout.readline)
        (held,) = line.removeprefix("holds ").split()
        workers += [start(directory, log, "take") for _ in range(3)]
        while len(names(directory)) > 1:
            await trio.sleep(0.05)
            given += [await one_more(directory, len(given))] if len(given) < 60 else []
        assert names(directory) == [held], "nobody else gets what it has"
        killed.send_signal(signal.SIGKILL)
        while names(directory):
            await trio.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert Counter(log.read_text().split()) == Counter(given)
    assert names(directory / "taken") == sorted(given)


async def one_more(directory: Path, number: int) -> str:
    name = f"t{number:03}"
    await put(directory, name)
    return name
