"""An agent's process in good and bad days: what it is given, what it leaves, how it cannot be started."""

import io
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from agent_helpers import ENV, CancelAt, open_agent, running, unique_seconds, until, until_sleeping

from triocept._process.output import OutputReader
from triocept._process.process import AgentProcess, open_process
from triocept._process.watcher import open_watcher
from triocept.errors import AgentFailed


async def test_an_agent_returns_its_code_its_output_and_its_duration() -> None:
    async with open_agent("sh", "-c", "echo out; echo err >&2; exit 3") as agent:
        assert await agent.wait() == 3
    result = agent.result
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert result.stdout_text == "out\n"
    assert result.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert 0 < result.duration < 5
    with pytest.raises(AgentFailed, match="returned 3"):
        result.check()


async def test_a_signal_that_ended_an_agent_is_its_negative_return_code() -> None:
    async with open_agent("sh", "-c", "kill -9 $$") as agent:
        assert await agent.wait() == -9


async def test_an_agent_has_no_result_while_it_runs() -> None:
    async with open_agent("cat", input="x") as agent:
        with pytest.raises(RuntimeError, match="before its `async with` block ends"):
            agent.result  # noqa: B018


@pytest.mark.parametrize("data", ["grüß", "grüß".encode(), b"x" * 1_000_000])
async def test_input_is_what_the_agent_reads(data: str | bytes) -> None:
    async with open_agent("cat", input=data) as agent:
        await agent.wait()
    assert agent.result.stdout == (data.encode() if isinstance(data, str) else data)


async def test_without_input_stdin_is_empty() -> None:
    async with open_agent("cat") as agent:
        assert await agent.wait() == 0


async def test_an_agent_that_does_not_read_its_input_is_no_error() -> None:
    async with open_agent("true", input=b"x" * 1_000_000) as agent:
        assert await agent.wait() == 0


async def test_an_agent_leads_its_own_session_and_has_no_terminal() -> None:
    async with open_agent(
        "sh", "-c", "ps -o pid=,pgid=,sid=,tty= -p $$ 2>/dev/null || cat /proc/$$/stat"
    ) as agent:
        await agent.wait()
    assert agent.result.stdout_text.split().count(str(agent.pid)) >= 3


async def test_the_working_directory_is_the_one_given(tmp_path: Path) -> None:
    async with open_agent("pwd", cwd=tmp_path) as agent:
        await agent.wait()
    assert agent.result.stdout_text.strip() == str(tmp_path)


async def test_an_agent_of_an_agent_bears_the_marks_of_both() -> None:
    async with open_agent("sh", "-c", "echo $TRIOCEPT_AGENT", env=ENV | {"TRIOCEPT_AGENT": "outer"}) as agent:
        await agent.wait()
    outer, inner = agent.result.stdout_text.strip().split(":")
    assert outer == "outer"
    assert len(inner) == 32


@pytest.mark.parametrize(("argv", "error", "text"), [
    ([], ValueError, "empty"),
    ([""], ValueError, "empty"),
    ("claude -p", TypeError, "must be a list"),
    (b"claude", TypeError, "must be a list"),
    (["claude", 1], TypeError, r"argv\[1\] must be a str, not int"),
    (["claude", b"x"], TypeError, r"argv\[1\] must be a str, not bytes"),
    (["claude", "a\0b"], ValueError, r"argv\[1\].*NUL"),
    (["claude", "\ud800"], ValueError, r"argv\[1\].*surrogate"),
])  # fmt: skip
async def test_a_command_that_is_none_is_a_clear_error(argv: Any, error: type[Exception], text: str) -> None:
    async with open_watcher() as watcher:
        with pytest.raises(error, match=text):
            async with open_process(argv, env=ENV, watcher=watcher):
                pass
        assert watcher.pid is None


@pytest.mark.parametrize("env", [{"A": "secret\0"}, {"A=B": "secret"}, {"A": "secret\ud800"}])
async def test_a_bad_environment_is_a_clear_error_without_its_value(env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="A") as caught:
        async with open_agent("true", env=env):
            pass
    assert "secret" not in str(caught.value)


async def test_a_command_that_does_not_exist_is_named_and_nothing_of_the_environment_is() -> None:
    with pytest.raises(
        AgentFailed, match=r"'no-such-agent-here' .* PATH in its environment: install"
    ) as caught:
        async with open_agent("no-such-agent-here", "--key=sk-arg", env=ENV | {"OPENAI_API_KEY": "sk-env"}):
            pass
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.returncode is None
    assert "sk-" not in str(caught.value)


async def test_each_way_not_to_start_says_what_to_do(tmp_path: Path) -> None:
    plain, garbage = tmp_path / "plain", tmp_path / "garbage"
    for name, text in (("orphan", "#!/usr/bin/nothere -x\n"), ("script.py", "print()\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    plain.write_text("#!/bin/sh\n")
    garbage.write_bytes(b"\x00\x01\x02")
    garbage.chmod(0o755)
    cases: list[tuple[list[str], Path | None, str]] = [
        ([str(tmp_path / "none")], None, "does not exist: check the path"),
        ([str(plain)], None, "chmod"),
        ([str(tmp_path)], None, "this is a directory"),
        ([str(garbage)], None, "not a program for this machine"),
        ([str(tmp_path / "orphan")], None, "interpreter '/usr/bin/nothere', which does not exist"),
        (["./orphan"], tmp_path, "interpreter '/usr/bin/nothere', which does not exist"),
        ([str(tmp_path / "script.py")], None, "run it as python /.*script.py"),
        (["true"], tmp_path / "none", "working directory .*none.*No such file"),
        (["true"], plain, "working directory .*plain.*Not a directory"),
        (["true", "x" * 3_000_000], None, "too long"),
    ]
    for argv, cwd, text in cases:
        with pytest.raises(AgentFailed, match=text):
            async with open_agent(*argv, cwd=cwd):
                pass


async def test_one_hundred_megabytes_are_bounded_in_memory_and_complete_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "stdout"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with open_agent(
        "sh",
        "-c",
        "printf start; head -c 100000000 /dev/zero; printf end",
        stdout_file=file,
        output_limit=100_000,
    ) as agent:
        await agent.wait()
    result = agent.result
    assert file.stat().st_size == 100_000_008
    assert result.stdout_dropped == 100_000_008 - 100_000
    assert result.stdout.startswith(b"start")
    assert result.stdout.endswith(b"end")
    assert len(result.stdout) < 100_100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


async def test_one_file_takes_both_streams(tmp_path: Path) -> None:
    path = tmp_path / "both"
    async with open_agent("sh", "-c", "echo 1; echo 2 >&2", stdout_file=path, stderr_file=str(path)) as agent:
        await agent.wait()
    assert sorted(path.read_text().split()) == ["1", "2"]


async def test_a_file_object_gets_the_output_and_stays_open() -> None:
    file = io.BytesIO()
    async with open_agent("echo", "hello", stdout_file=file) as agent:
        await agent.wait()
    assert file.getvalue() == b"hello\n"


async def test_echo_passes_the_output_on_and_keeps_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with open_agent("sh", "-c", "echo 1; echo 2 >&2", output="echo") as agent:
        await agent.wait()
    assert capfdbinary.readouterr() == (b"1\n", b"2\n")
    assert (agent.result.stdout, agent.result.stderr) == (b"1\n", b"2\n")


async def test_inherit_leaves_the_output_to_the_agent(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with open_agent("sh", "-c", "echo 1; echo 2 >&2", output="inherit") as agent:
        await agent.wait()
    assert capfdbinary.readouterr() == (b"1\n", b"2\n")
    assert (agent.result.stdout, agent.result.stderr) == (b"", b"")
    with pytest.raises(ValueError, match="inherit"):
        async with open_agent("true", output="inherit", stdout_file=io.BytesIO()):
            pass


async def test_a_file_that_cannot_be_written_ends_the_agent_and_is_an_error() -> None:
    tag = unique_seconds()
    with pytest.raises(AgentFailed, match=r"stdout .* cannot be written") as caught:
        async with open_agent("sh", "-c", f"echo 1; sleep {tag}", stdout_file="/dev/full") as agent:
            await agent.wait()
    assert isinstance(caught.value.__cause__, OSError)
    assert running(tag) == []


async def test_last_words_that_a_file_cannot_take_are_an_error_though_a_deadline_has_ended_the_agent(
    tmp_path: Path,
) -> None:
    up = tmp_path / "up"
    script = f"trap 'echo bye; exit' TERM; : > {up}; while :; do sleep 0.01; done"
    with pytest.raises(AgentFailed, match=r"stdout .* cannot be written"), trio.CancelScope() as scope:
        async with open_agent("sh", "-c", script, stdout_file="/dev/full", terminate_grace=30) as agent:
            await until(up.exists)
            scope.deadline = trio.current_time()
            await agent.wait()


async def test_the_end_of_stderr_in_an_error_has_no_keys() -> None:
    async with open_agent(
        "sh", "-c", "echo bad key $OPENAI_API_KEY >&2; exit 1", env=ENV | {"OPENAI_API_KEY": "sk-0123456789"}
    ) as agent:
        await agent.wait()
    with pytest.raises(AgentFailed, match=r"bad key \*\*\*"):
        agent.result.check()


async def test_the_bodys_exception_leaves_bare_and_the_agent_ends() -> None:
    tag, error = unique_seconds(), ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_agent("sleep", tag):
            raise error
    assert caught.value is error
    assert running(tag) == []


async def test_cancellation_at_any_step_leaves_no_process() -> None:
    """From the start of the watcher to the end of both: the scope is cancelled at the first step, the second, …"""
    steps, finished = 0, False
    while not finished:
        steps += 1
        tag = unique_seconds()
        with trio.CancelScope() as scope:
            instrument = CancelAt(steps, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with open_agent("sh", "-c", f"setsid sleep {tag} & sleep {tag}") as agent:
                    await until_sleeping(tag, 2)
                    await trio.lowlevel.checkpoint()
                    agent_ran = agent
            finally:
                trio.lowlevel.remove_instrument(instrument)
            finished = not scope.cancel_called
        assert running(tag) == [], f"cancelled at step {steps}"
    assert steps > 15
    assert agent_ran.returncode is not None


@pytest.mark.once
async def test_fifty_runs_leave_no_descriptor_open(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def run() -> None:
        async with open_agent("cat", input="x", watcher=watcher, stdout_file=tmp_path / "out") as agent:
            await agent.wait()
        with trio.move_on_after(0.001):
            async with open_agent("sleep", "1000", watcher=watcher):
                await trio.sleep_forever()

    outside = count()
    async with open_watcher() as watcher:
        await run()
        before = count()
        for _ in range(50):
            await run()
        assert count() == before
    assert count() == outside


SEEN = """
import json, os, signal
status = open("/proc/self/status").read()
print(json.dumps({
    "blocked": [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")],
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "environment": open("/proc/self/environ", errors="replace").read().split("\\0")[:-1],
    "arguments": open("/proc/self/cmdline", errors="replace").read().split("\\0")[:-1],
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what marks an agent is Linux's")
async def test_an_agent_sees_nothing_of_what_marks_it(tmp_path: Path) -> None:
    """Neither of the interpreter that it was for some milliseconds, which has habits of its own."""
    program = tmp_path / "seen.py"
    program.write_text(SEEN)
    argv = [sys.executable, "-I", str(program), "", "\udcff", "ä b", "--"]
    env = {"PATH": ENV["PATH"], "LANG": "C", "EMPTY": "", "ODD": "a=b\nc"}
    async with open_agent(*argv, env=env) as agent:
        await agent.wait()
    plain = await trio.run_process(argv, capture_stdout=True, env=env, start_new_session=True)
    seen, expected = json.loads(agent.result.stdout), json.loads(plain.stdout)
    assert [text for text in seen.pop("environment") if "TRIOCEPT" not in text] == expected.pop("environment")
    assert seen == expected


@pytest.mark.skipif(sys.platform != "linux", reason="what marks an agent is Linux's")
async def test_an_agent_ignores_no_signal_that_its_program_did_not_ignore() -> None:
    """The interpreter that marks it ignores SIGPIPE, and `yes | head` would not end."""
    async with open_agent("grep", "SigIgn", "/proc/self/status") as agent:
        await agent.wait()
    plain = await trio.run_process(["grep", "SigIgn", "/proc/self/status"], capture_stdout=True)
    assert agent.result.stdout == plain.stdout


BLOCKS = """
import os, signal, trio
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})

async def main():
    async with open_watcher() as watcher:
        argv = ["grep", "SigBlk", "/proc/self/status"]
        async with open_process(argv, env=dict(os.environ), watcher=watcher) as agent:
            await agent.wait()
    print(agent.result.stdout.decode())

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_agent_can_be_interrupted_also_where_its_program_cannot() -> None:
    """What Ray starts has SIGINT blocked, and that is inherited."""
    done = await trio.run_process([sys.executable, "-c", BLOCKS], capture_stdout=True)
    assert int(done.stdout.split()[1], 16) == 1 << (signal.SIGUSR1 - 1)


async def test_an_agent_starts_where_its_environment_breaks_the_interpreter_that_marks_it(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        async with open_watcher() as watcher:
            await watcher.register("first")
            patch.setattr("sys.executable", str(broken))
            async with open_process(["echo", "up"], env=ENV, watcher=watcher) as agent:
                await agent.wait()
            watcher.unregister_nowait("first")
    assert agent.result.stdout == b"up\n"


@pytest.mark.parametrize("data", [{"task": "x"}, ["a"], 5, io.BytesIO(b"x")])
async def test_input_that_is_neither_bytes_nor_str_is_said_before_the_agent_starts(data: Any) -> None:
    async with open_watcher() as watcher:
        with pytest.raises(TypeError, match="input must be bytes or str"):
            async with open_process(["cat"], env=ENV, watcher=watcher, input=data):
                pass
        assert watcher.pid is None


@pytest.mark.parametrize(
    "options",
    [{"input": "\ud800"}, {"output": "all"}, {"output_limit": -1}, {"terminate_grace": float("nan")}],
    ids=str,
)
async def test_an_option_that_is_none_is_said_before_the_agent_starts(options: dict[str, Any]) -> None:
    name = next(iter(options))
    async with open_watcher() as watcher:
        with pytest.raises(ValueError, match=name):
            async with open_process(["cat"], env=ENV, watcher=watcher, **options):
                pass
        assert watcher.pid is None


@pytest.mark.parametrize(
    "where", [(trio.lowlevel.FdStream, "send_all"), (OutputReader, "read")], ids=["in", "out"]
)
async def test_a_stream_that_fails_ends_the_agent_in_order_and_is_raised_bare(
    where: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("no such stream")

    monkeypatch.setattr(*where, fail)
    seconds = unique_seconds()
    with pytest.raises(ZeroDivisionError, match="no such stream"):
        async with open_agent("sleep", seconds, input=b"x"):
            await trio.sleep_forever()
    assert running(seconds) == []


async def test_an_end_that_nobody_noticed_is_found_when_the_agent_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Any) -> None:
        raise ZeroDivisionError("cannot wait")

    monkeypatch.setattr(AgentProcess, "_await_exit", fail)
    seconds = unique_seconds()
    with pytest.raises(ZeroDivisionError, match="cannot wait"):
        async with open_agent("sleep", seconds, terminate_grace=1000):
            await trio.sleep_forever()
    assert running(seconds) == []
    assert "lives on" not in caplog.text
