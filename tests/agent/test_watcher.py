"""The program is killed with SIGKILL, in another process than this; its agents are gone within 2 s."""

import logging
import os
import signal
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from agent_helpers import (
    ENV,
    comes_true,
    no_mark,
    open_agent,
    open_program,
    running,
    unique_seconds,
    until,
    until_sleeping,
)

from triocept._process import group
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

RUN = """
import os, sys, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

async def main():
    async with open_watcher() as watcher:
        async with open_process(["sh", "-c", sys.argv[1]], env=os.environ, watcher=watcher):
            print(watcher.pid, flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("script", [
    "sleep {tag} & sleep {tag}",
    "setsid sleep {tag} & sleep {tag}; true",
    "trap '' TERM; setsid sleep {tag} & sleep {tag}; true",
    "trap '' TERM; (env -i setsid sleep {tag}) & env -i sleep {tag}; true",
    pytest.param("(env -i setsid sleep {tag} &); sleep {tag}; true", marks=no_mark),
    pytest.param("trap '' TERM; (env -i setsid sleep {tag} &); sleep {tag}; true", marks=no_mark),
])  # fmt: skip
async def test_a_killed_program_takes_its_agents_with_it_within_two_seconds(script: str) -> None:
    tag = unique_seconds()
    async with open_program(RUN, script.format(tag=tag)) as program:
        watcher = int(await program.line())
        await until_sleeping(tag, 2)
        program.kill()
        itself = {program.process.pid}
        assert await comes_true(lambda: set(running(tag)) <= itself, within=30)
    assert await comes_true(lambda: not _is_alive(watcher), within=30)


BEFORE_EXEC = """
import os, signal, subprocess, sys, time, trio
from triocept._process.watcher import open_watcher

def at_this_moment():
    os.kill(os.getppid(), signal.SIGKILL)
    if late := float(sys.argv[2]):
        os.closerange(3, 256)  # as subprocess does right before the exec: the watcher sees its pipe's end
        time.sleep(late)

async def main():
    async with open_watcher() as watcher:
        await watcher.register("0123456789abcdef")
        # In the child, between its fork and its exec: the moment at which nobody knows the agent's number.
        subprocess.Popen(["sleep", sys.argv[1]], env=os.environ | {"TRIOCEPT_AGENT": "0123456789abcdef"},
                         start_new_session=True, preexec_fn=at_this_moment)

trio.run(main)
"""


@pytest.mark.parametrize("late", [0, 1.2], ids=["at once", "a busy machine lets it wait"])
async def test_an_agent_between_its_fork_and_its_exec_ends_too(late: float) -> None:
    tag = unique_seconds()
    async with open_program(BEFORE_EXEC, tag, str(late)) as program:
        assert await program.process.wait() == -signal.SIGKILL
        assert await comes_true(lambda: not running(tag), within=30)


def test_a_watcher_that_got_no_processor_time_for_long_kills_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = chain([0.0, 0.1], repeat(group.SEARCH + 1))
    sent: list[int] = []
    listener: Any = SimpleNamespace(is_orphan=True, closed=True)
    monkeypatch.setattr(
        group, "time", SimpleNamespace(monotonic=lambda: next(times), sleep=lambda seconds: None)
    )
    monkeypatch.setattr(group, "read_processes", lambda since: None)
    monkeypatch.setattr(group.Ending, "send", lambda self, signum, processes: sent.append(signum) or 1)
    group._end([], listener, 0, last=True)
    assert sent == [signal.SIGTERM] + [signal.SIGKILL] * group.KILLS


WITH_A_FORK = """
import os, sys, time, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

async def main():
    async with open_watcher() as watcher:
        async with open_process(["sleep", sys.argv[1]], env=os.environ, watcher=watcher):
            if not (child := os.fork()):  # as multiprocessing does: the child has the pipe, too
                time.sleep(600)
                os._exit(0)
            print(child, flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


async def test_a_forked_child_that_holds_the_pipe_open_does_not_keep_the_agents_alive() -> None:
    tag = unique_seconds()
    async with open_program(WITH_A_FORK, tag) as program:
        child = int(await program.line())
        await until_sleeping(tag, 1)
        program.kill()
        try:
            only = {child, program.process.pid}
            assert await comes_true(lambda: set(running(tag)) <= only, within=30)
        finally:
            os.kill(child, signal.SIGKILL)


async def test_a_watcher_that_was_never_needed_never_was() -> None:
    async with open_watcher() as watcher:
        assert watcher.pid is None


@pytest.mark.parametrize("when", ["behind its end", "while it starts"])
async def test_an_agent_that_comes_too_late_for_its_watcher_leaves_none_behind(when: str) -> None:
    async def register() -> None:
        if when == "behind its end":
            await over.wait()
        with pytest.raises(trio.ClosedResourceError, match="has ended"):
            await watcher.register("token")

    over = trio.Event()
    async with trio.open_nursery() as nursery:
        async with open_watcher() as watcher:
            nursery.start_soon(register)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        over.set()
    assert watcher.pid is None


async def test_a_watcher_ends_with_its_context_and_kills_nothing() -> None:
    tag = unique_seconds()
    async with open_agent("sleep", tag):
        async with open_watcher() as watcher:
            await watcher.register("a-token")
            watcher.unregister_nowait("a-token")
            pid = watcher.pid
            assert pid is not None
        assert not _is_alive(pid)
        assert len(running(tag)) == 1


async def test_a_watcher_does_not_hear_the_signals_of_the_terminal_or_of_a_service_manager() -> None:
    async with open_watcher() as watcher:
        await watcher.register("a-token")
        pid = watcher.pid
        assert pid is not None
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, signum)
        await watcher.register("another-token")
        assert watcher.pid == pid
        assert os.getsid(pid) == pid
        watcher.unregister_nowait("a-token")
        watcher.unregister_nowait("another-token")


async def test_one_watcher_serves_all_agents() -> None:
    async with open_watcher() as watcher:
        pids = set()
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                async with open_process(["true"], env=ENV, watcher=watcher) as agent:
                    await agent.wait()
                    pids.add(watcher.pid)

            for _ in range(5):
                nursery.start_soon(run)
        assert len(pids) == 1


async def test_a_watcher_that_dies_is_said_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    tag = unique_seconds()
    with caplog.at_level(logging.WARNING):
        async with open_watcher() as watcher, open_process(["sleep", tag], env=ENV, watcher=watcher):
            first = watcher.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: not _is_alive(first))
            async with open_process(["true"], env=ENV, watcher=watcher) as agent:
                assert await agent.wait() == 0
            assert watcher.pid not in (None, first)
            assert "has died" in caplog.text
            assert len(running(tag)) == 1
    assert running(tag) == []


async def test_an_agent_runs_without_a_watcher_where_none_can_start(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    async with open_agent("true") as agent:
        assert await agent.wait() == 0
    assert "the watcher process did not start" in caplog.text


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


AN_INTERRUPT_AT_THE_END = """
import signal, sys, trio, warnings
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

warnings.simplefilter("error")
sys.unraisablehook = lambda it: print(it.exc_value, flush=True)

async def main():
    async with open_watcher() as watcher:
        async with open_process(["true"], env={"PATH": "/bin:/usr/bin"}, watcher=watcher):
            pass
        close = watcher._close
        async def interrupted():
            signal.raise_signal(signal.SIGINT)  # as of here, protected: it arrives at the next checkpoint
            await close()
        watcher._close = interrupted

try:
    trio.run(main)
except KeyboardInterrupt:
    print("bare", flush=True)
"""


async def test_a_ctrl_c_while_the_watcher_ends_leaves_no_process() -> None:
    async with open_program(AN_INTERRUPT_AT_THE_END) as program:
        assert await program.line() == "bare"
        assert await program.process.wait() == 0
        assert program._rest == b""
        assert await program.process.stdout.receive_some() == b""
