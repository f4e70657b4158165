"""A search reads each process that may belong to an agent, and no process twice that is older than the agents."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from agent_helpers import open_agent, running, unique_seconds, until, until_sleeping

from triocept._process import group, watcher
from triocept._process.group import birth, read_processes
from triocept._process.watcher import open_watcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
"""The kernel gives the next process the next number."""


@contextmanager
def started(*argv: str) -> Iterator[int]:
    with subprocess.Popen(argv) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def wait_for_tick(born: int) -> None:
    """Wait until a new process is younger than one of that birth: /proc counts births in hundredths of a second."""
    while time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") < born + 1:
        time.sleep(0.001)


def test_a_process_that_starts_between_two_searches_is_in_the_second() -> None:
    births: dict[tuple[str, int], int] = {}
    since = birth(os.getpid())
    first = read_processes(since, births)
    with started("sleep", unique_seconds()) as pid:
        second = read_processes(since, births)
    assert pid not in first
    assert pid in second


def test_only_processes_that_are_older_than_the_agents_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    births: dict[tuple[str, int], int] = {}
    look_at, read = group._look_at, list[int]()

    def note(pid: int) -> group.ProcessInfo | None:
        read.append(pid)
        return look_at(pid)

    monkeypatch.setattr(group, "_look_at", note)
    with started("sleep", unique_seconds()) as old:
        wait_for_tick(birth(old))
        with started("sleep", unique_seconds()) as young:
            since = birth(young)
            for times in (1, 2, 3):
                read.clear()
                processes = read_processes(since, births)
                assert young in processes
                assert old not in processes
                assert read.count(young) == 1
                assert read.count(old) == (times == 1)
            assert old in read_processes(birth(old), births)


def test_a_process_that_has_ended_is_read_once() -> None:
    births: dict[tuple[str, int], int] = {}
    since = birth(os.getpid())
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        first, second = read_processes(since, births), read_processes(since, births)
    assert not first[process.pid].alive
    assert process.pid in first.unclear
    assert process.pid not in {*second, *second.unclear}


def test_a_search_sees_what_has_changed_since_the_search_before() -> None:
    births: dict[tuple[str, int], int] = {}
    script = f"read word; exec setsid env {group.MARK}=token sleep {unique_seconds()}"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    ) as process:
        try:
            since = birth(process.pid)
            first = read_processes(since, births)[process.pid]
            process.stdin.write(b"go\n")
            process.stdin.flush()
            end = time.monotonic() + 60
            while not (second := read_processes(since, births)[process.pid]).tokens:
                assert time.monotonic() < end
                time.sleep(0.001)
        finally:
            process.kill()
    assert (first.group, first.tokens) == (os.getpgrp(), frozenset())
    assert (second.group, second.tokens) == (process.pid, {b"token"})


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="may not choose the number of the next process")
def test_a_process_that_has_got_the_number_of_an_older_one_is_read() -> None:
    births: dict[tuple[str, int], int] = {}
    for _ in range(100):  # other programs start processes, too
        with started("sleep", unique_seconds()) as old:
            born = birth(old)
            assert old not in read_processes(born + 1, births)
            assert born in births.values()
            wait_for_tick(born)
        LAST_PID.write_text(str(old - 1))
        with started("sleep", unique_seconds()) as new:
            if new == old:
                assert new in read_processes(born + 1, births)
                return
    pytest.skip("each number was taken by another program")


def test_starts_of_processes_are_kept_only_as_long_as_they_exist() -> None:
    births: dict[tuple[str, int], int] = {}
    with started("sleep", unique_seconds()) as pid:
        read_processes(0, births)
        assert str(pid) in {name for name, _ in births}
    read_processes(0, births)
    assert str(pid) not in {name for name, _ in births}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_search_that_may_open_no_file_has_failed_and_has_not_found_nothing(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), path)

    births: dict[tuple[str, int], int] = {}
    since = birth(os.getpid())
    assert os.getpid() in read_processes(since, births)
    monkeypatch.setattr("builtins.open", refuse)
    failed, unknown = read_processes(since, births), birth(os.getpid())
    monkeypatch.undo()
    assert failed is None
    assert unknown is None


async def test_nothing_is_left_of_an_agent_that_ends_beside_an_older_and_a_younger_one() -> None:
    left, ended = unique_seconds(), trio.Event()

    async def older() -> None:
        async with open_agent("sh", "-c", f"setsid sleep {left} & sleep 1000", watcher=own):
            await until_sleeping(left, 1)
            wait_for_tick(max(own._starts.values()))
            nursery.start_soon(younger)
            await until(lambda: len(set(own._starts.values())) == 3)
        assert running(left) == []
        ended.set()

    async def younger() -> None:
        async with open_agent("sleep", unique_seconds(), watcher=own):
            await ended.wait()

    async with open_watcher() as own:
        async with open_agent("sleep", unique_seconds(), watcher=own) as oldest:
            wait_for_tick(birth(oldest.pid))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(older)
        assert own._starts == {}
    assert ended.is_set()


@pytest.mark.parametrize(("beside", "searches"), [
    ("a process", 1), ("a process without environment", 2), ("a process of hidden limits", 2),
    ("a process that ends", 2),
])  # fmt: skip
async def test_one_search_suffices_if_each_listed_process_lives_and_shows_its_marks(
    beside: str, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, look_at, count = os.scandir, group._look_at, 0

    @contextmanager
    def scan(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            yield [entry for entry in entries if entry.name in map(str, (os.getpid(), agent.pid, other.pid))]

    def look(pid: int) -> group.ProcessInfo | None:
        if pid == other.pid and beside == "a process that ends":
            other.kill()
            other.wait()
        return look_at(pid)

    def search(*arguments: Any) -> group.Processes | None:
        nonlocal count
        count += 1
        return read_processes(*arguments)

    async with open_agent("true") as agent:
        await agent.wait()
        environment = {} if beside == "a process without environment" else {"A": "B"}
        other = subprocess.Popen(["/bin/sleep", unique_seconds()], env=environment)
        while environment and not Path(f"/proc/{other.pid}/environ").read_bytes():
            time.sleep(0.001)  # its exec is not over: it has no environment yet
        if beside == "a process of hidden limits":
            monkeypatch.setattr(group, "_read_mark", lambda pid: None)
        monkeypatch.setattr(group.os, "scandir", scan)
        monkeypatch.setattr(group, "_look_at", look)
        monkeypatch.setattr(watcher, "read_processes", search)
    other.kill()
    other.wait()
    assert count == searches
