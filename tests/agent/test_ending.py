"""Nothing of an agent lives on, whatever it did to hide."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from agent_helpers import (
    ENV,
    no_mark,
    open_agent,
    open_program,
    running,
    unique_seconds,
    until,
    until_sleeping,
)

from tests.programs import run_python
from triocept._process import group, process
from triocept._process.group import Processes, read_processes
from triocept._process.process import TERMINATE_GRACE, open_process
from triocept._process.watcher import Watcher, open_watcher


async def test_an_agent_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    tag = unique_seconds()
    async with open_agent(
        "sh", "-c", f"trap '' TERM; sleep {tag}; sleep {tag}", terminate_grace=0.2
    ) as agent:
        await until_sleeping(tag, 1)
        start = trio.current_time()
    assert 0.15 < trio.current_time() - start < TERMINATE_GRACE
    assert agent.result.returncode == -signal.SIGKILL
    assert running(tag) == []


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_agent_may_say_its_last_words_and_hears_sigterm_once(cancelled: bool) -> None:
    script = (
        "left=0; trap 'echo bye; left=30' TERM; echo up\n"
        "while [ $left -ne 1 ]; do sleep 0.01; [ $left -eq 0 ] || left=$((left - 1)); done"
    )
    with trio.CancelScope() as scope:
        async with open_agent("sh", "-c", script, terminate_grace=30) as agent:
            await until(lambda: agent._stdout.buffer.content() == b"up\n")
            if cancelled:
                scope.cancel()
                await trio.sleep_forever()
    assert agent.result.stdout == b"up\nbye\n"


@pytest.mark.once
async def test_a_search_that_takes_long_does_not_shorten_the_grace_of_an_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search, grace = Watcher.processes, 1.5

    async def search_slowly(self: Watcher) -> Processes | None:
        monkeypatch.setattr(Watcher, "processes", search)
        await trio.sleep(grace + 0.5)
        return await search(self)

    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done"
    async with open_agent("sh", "-c", script, terminate_grace=grace) as agent:
        await until(lambda: agent._stdout.buffer.content() == b"up\n")
        monkeypatch.setattr(Watcher, "processes", search_slowly)
    assert (agent.result.returncode, agent.result.stdout) == (3, b"up\nbye\n")


async def test_a_stopped_agent_hears_sigterm_too() -> None:
    tag = unique_seconds()
    async with open_agent("sleep", tag, terminate_grace=30) as agent:
        os.kill(agent.pid, signal.SIGSTOP)
    assert agent.result.returncode == -signal.SIGTERM


@pytest.mark.parametrize("script", [
    "sleep {tag} & sleep {tag}; true", "(sleep {tag} & sleep {tag}) & wait",
    "setsid sleep {tag} & setsid sleep {tag} & wait",
    "(setsid sh -c 'sleep {tag} & exec sleep {tag}' &); sleep 1000",
    "env -i setsid sleep {tag} & env -i sleep {tag} & wait",
    "(trap '' TERM; setsid sleep {tag} & sleep {tag}) & wait",
])  # fmt: skip
async def test_descendants_end_with_the_agent_wherever_they_went(script: str) -> None:
    tag = unique_seconds()
    async with open_agent("sh", "-c", script.format(tag=tag), terminate_grace=0.3):
        await until_sleeping(tag, 2)
    assert running(tag) == []


@pytest.mark.parametrize(
    "script", ["sleep {tag} & exit 0", "setsid sleep {tag} & exit 0", "(trap '' TERM; sleep {tag}) &"]
)
async def test_what_a_finished_agent_leaves_behind_ends_and_does_not_hold_us(script: str) -> None:
    tag = unique_seconds()
    start = trio.current_time()
    async with open_agent("sh", "-c", script.format(tag=tag), terminate_grace=50) as agent:
        assert await agent.wait() == 0
    assert trio.current_time() - start < 30
    assert running(tag) == []


async def test_what_a_finished_agent_leaves_behind_may_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LEFTOVER_PATIENCE", 30)
    async with open_agent("sh", "-c", "(sleep 0.05; echo last) &") as agent:
        await agent.wait()
    assert agent.result.stdout == b"last\n"


# What a daemon does, in the order that hides it best: its parent ends before anybody has looked.
DAEMONS = [
    "(env -i setsid sleep {tag} &)",
    "env -i setsid sh -c 'sleep {tag} & exit' & exit 0",
    "setsid env -i sh -c '(setsid sleep {tag} &) & exit' </dev/null >/dev/null 2>&1 &",
]


@no_mark
@pytest.mark.parametrize("ended", ["by itself", "by us"])
@pytest.mark.parametrize("script", DAEMONS)
async def test_a_daemon_without_environment_session_and_parent_ends_too(script: str, ended: str) -> None:
    tag = unique_seconds()
    rest = "" if ended == "by itself" else f"\nsleep {tag}"
    async with open_agent("sh", "-c", script.format(tag=tag).replace("exit 0", "") + rest) as agent:
        if ended == "by itself":
            await agent.wait()
        await until_sleeping(tag, 1 if ended == "by itself" else 2)
    assert running(tag) == []


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="there is no prlimit(1)")
async def test_a_daemon_that_has_set_its_limit_itself_is_found_by_its_environment() -> None:
    tag = unique_seconds()
    async with open_agent("sh", "-c", f"(prlimit --locks=5:5 setsid sleep {tag} &); sleep {tag}"):
        await until_sleeping(tag, 2)
    assert running(tag) == []


async def test_a_signal_goes_to_the_process_that_was_seen_and_to_none_of_its_number() -> None:
    with subprocess.Popen(["sleep", unique_seconds()]) as process:
        try:
            processes = read_processes()
            seen = processes[process.pid]
            seen.born -= 1
            group._send(seen, signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
            seen.born += 1
            group._send(seen, signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
        finally:
            process.kill()


@no_mark
def test_the_mark_of_a_process_whose_limits_may_not_be_asked_for_is_read_where_anybody_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    with subprocess.Popen(["sleep", unique_seconds()]) as process:
        try:
            resource.prlimit(process.pid, group.LOCKS, (12345, 12345))
            monkeypatch.setattr(resource, "prlimit", refuse)
            assert group._read_mark(process.pid) == 12345
        finally:
            process.kill()


@no_mark
async def test_the_mark_is_there_from_the_first_moment() -> None:
    tag = unique_seconds()
    for _ in range(30):
        async with open_agent("sh", "-c", f"(env -i setsid sleep {tag} &)") as agent:
            await agent.wait()
    assert running(tag) == []


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="there is no prlimit(1)")
async def test_a_pipe_that_is_held_by_what_nobody_can_find_does_not_hold_us() -> None:
    tag = unique_seconds()
    script = f"prlimit --locks=5:5 env -i setsid sleep {tag} & sleep 0.1; echo done"
    async with open_agent("sh", "-c", script) as agent:
        await agent.wait()
        await until_sleeping(tag, 1)
    (escaped,) = running(tag)  # orphaned, in its own session, without either mark: beyond us
    os.kill(escaped, signal.SIGKILL)
    assert agent.result.stdout == b"done\n"


async def test_another_process_of_ours_is_left_alone() -> None:
    tag, other = unique_seconds(), unique_seconds()
    async with open_watcher() as watcher, open_process(["sleep", other], env=ENV, watcher=watcher):
        async with open_process(["sleep", tag], env=ENV, watcher=watcher):
            await until_sleeping(other, 1)
        assert len(running(other)) == 1


async def test_many_agents_end_at_once() -> None:
    tag = unique_seconds()

    async def run() -> None:
        async with open_process(["sleep", tag], env=ENV, watcher=watcher, terminate_grace=50):
            await trio.sleep_forever()

    async with open_watcher() as watcher:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(run)
            await until_sleeping(tag, 40)
            start, cost = trio.current_time(), time.process_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start < 30
        assert time.process_time() - cost < 3
    assert running(tag) == []


CTRL_C = """
import os, sys, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

async def main():
    script = f"trap 'echo term' TERM; echo up; while :; do sleep {sys.argv[1]}; done"
    async with open_watcher() as watcher:
        async with open_process(["sh", "-c", script], env=os.environ, watcher=watcher, output="echo",
                                terminate_grace=30) as agent:
            await agent.wait()

try:
    trio.run(main)
except KeyboardInterrupt:
    print("bare", flush=True)
"""


async def test_a_second_ctrl_c_kills_at_once_and_leaves_bare() -> None:
    tag = unique_seconds()
    async with open_program(CTRL_C, tag) as program:
        assert await program.line() == "up"
        await until_sleeping(tag, 1)  # a shell between fork and exec loses a signal
        program.process.send_signal(signal.SIGINT)
        assert await program.line() == "term"
        program.process.send_signal(signal.SIGINT)
        assert await program.line() == "bare"
        assert await program.process.wait() == 0
    assert running(tag) == []


AN_AGENT_THAT_RUNS_AGENTS = """
import os, sys, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

async def main():
    async with open_watcher() as watcher:
        async with open_process(["sh", "-c", sys.argv[1]], env=os.environ, watcher=watcher) as agent:
            await agent.wait()

trio.run(main)
"""


async def test_the_agents_of_an_agent_end_with_it() -> None:
    tag = unique_seconds()
    script = f"trap '' TERM; setsid sleep {tag} & sleep {tag}; true"
    async with open_agent(
        sys.executable, "-c", AN_AGENT_THAT_RUNS_AGENTS, script, env=dict(os.environ), terminate_grace=0.3
    ):
        await until_sleeping(tag, 2)
    assert running(tag) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only a /proc shows what has left its group")
def test_what_has_left_its_group_is_ended_though_the_program_has_no_descriptor_to_look_for_it() -> None:
    """Its watcher has some of its own."""
    tag = unique_seconds()
    program = f"""
import logging, os, resource, trio
from triocept import serve_endpoint
logging.basicConfig()
async def main():
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        held = []
        script = "setsid sleep {tag} & setsid sleep {tag} & echo up; wait"
        async with rollout.open_agent(["sh", "-c", script], terminate_grace=20) as agent:
            while b"up" not in agent._process._stdout.buffer.content():
                await trio.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            try:
                while True:
                    held.append(os.open("/dev/null", 0))
            except OSError:
                pass
        for number in held:
            os.close(number)
trio.run(main)
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    assert "the watcher process ends them" in done.stderr
    assert running(tag) == []


async def test_what_is_forked_while_a_look_is_under_way_ends_though_its_parent_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A look lists the processes, and then reads each: a child that is forked in between is not in the list, and its
    parent is dead when it is read."""
    tag, forks = unique_seconds(), tmp_path / "forks"
    os.mkfifo(forks)
    look_at, forked = group._look_at, False

    def fork_behind_the_list(pid: int) -> group.ProcessInfo | None:
        nonlocal forked
        if not forked and agent.returncode is not None:
            forked = True
            forks.write_bytes(b"now\n")
            end = time.monotonic() + 30
            while not running(f"sleep\0{tag}") or running(str(forks)):
                assert time.monotonic() < end
                time.sleep(0.001)
        return look_at(pid)

    async with open_agent("sh", "-c", f"(read word < {forks}; sleep {tag} &) & exit 0") as agent:
        await agent.wait()
        monkeypatch.setattr(group, "_look_at", fork_behind_the_list)
    assert forked
    assert running(tag) == []


AN_INTERRUPT_AT_A_START = """
import os, signal, sys, time, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

open_any = trio.lowlevel.open_process

async def interrupted(*arguments, **options):
    process = await open_any(*arguments, **options)
    while "pass_fds" in options and not os.path.exists(sys.argv[2]):  # it has become the agent
        time.sleep(0.001)
    if "pass_fds" in options:  # the agent's launcher, not the watcher
        signal.raise_signal(signal.SIGINT)
    return process

async def main():
    async with open_watcher() as watcher:
        trio.lowlevel.open_process = interrupted
        script = f"{sys.argv[1]} sleep {sys.argv[3]} & : > {sys.argv[2]}; sleep {sys.argv[3]}"
        async with open_process(["sh", "-c", script], env=os.environ, watcher=watcher):
            await trio.sleep_forever()

try:
    trio.run(main)
except KeyboardInterrupt:
    print("bare", flush=True)
"""


@pytest.mark.parametrize("leaves", ["", "setsid"])
async def test_a_ctrl_c_while_an_agent_is_being_started_leaves_no_process(
    leaves: str, tmp_path: Path
) -> None:
    tag = unique_seconds()
    async with open_program(AN_INTERRUPT_AT_A_START, leaves, str(tmp_path / "up"), tag) as program:
        assert await program.line() == "bare"
        assert await program.process.wait() == 0
    await until(lambda: not running(tag))
