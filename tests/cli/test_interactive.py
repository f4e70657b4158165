"""`--interactive` and `--cwd`: the agent gets the terminal, and the terminal is as before when it has ended."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from cli_helpers import PATIENCE
from cli_terminal import Terminal

from tests.cli.cli_forks import triocept as forked

once = pytest.mark.once

AGENT = """
import json, os, select, signal, sys, tty, urllib.request

reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)

def read_word():
    print("ready> ", end="", flush=True)
    while 0 not in select.select([0, reader], [], [])[0]:  # unlike `input`, sees a Ctrl-C that came before it waits
        os.read(reader, 1)
    if not (line := os.read(0, 1000)):
        raise EOFError
    return line.decode().strip()

def call():
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]

print("terminal", *map(os.isatty, (0, 1, 2)), os.tcgetpgrp(0) == os.getpgrp(), os.getcwd(), flush=True)
while True:
    try:
        word = read_word()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        continue
    except EOFError:
        sys.exit(7)
    if word == "call":
        print("said:", call(), flush=True)
    elif word == "pid":
        print(f"<{os.getpid()}>", flush=True)
    elif word in ("raw", "killed"):
        tty.setraw(0)
        sys.stdout.write("\\x1b[?1049h\\x1b[?25l")
        sys.stdout.flush()
        if word == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        sys.exit(0)
"""
HANDLER = """
async def answer(exchange):
    print("printed by the handler", flush=True)
    await exchange.respond("hello")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "mine.py").write_text(HANDLER)
    (tmp_path / "work").mkdir()
    return tmp_path


def interactive(folder: Path, *arguments: str) -> Terminal:
    command = ("--", sys.executable, str(folder / "agent.py"))
    return Terminal("run", "--interactive", *arguments, *command, cwd=folder)


@once
def test_the_agent_has_the_terminal_and_what_triocept_prints_waits_for_its_end(folder: Path) -> None:
    with interactive(folder, "--handler", "mine.py:answer", "--cwd", "work") as terminal:
        before = terminal.modes
        shown = terminal.expect("ready> ")
        assert f"terminal True True True True {folder / 'work'}" in shown
        terminal.type("call\n")
        shown = terminal.expect("said: hello")
        assert "printed by the handler" not in shown
        assert "answered" not in shown
        terminal.expect("ready> ")
        terminal.type("\x03")
        terminal.expect("interrupted")
        terminal.type("\x04")
        shown = terminal.expect("1 turn\r\n")
        assert "printed by the handler" in shown
        assert "agent ended with exit status 7" in shown
        assert terminal.process.wait(PATIENCE) == 7
        assert terminal.modes == before


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("raw", marks=once),
        pytest.param("killed", marks=pytest.mark.slow),  # sessions of mutants leave out those marked `once`
        pytest.param("terminated", marks=once),
    ],
)
def test_the_modes_of_the_terminal_are_as_before_however_the_agent_ended(end: str, folder: Path) -> None:
    with interactive(folder) as terminal:
        before = terminal.modes
        terminal.expect("ready> ")
        if end == "terminated":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.type(f"{end}\n")
        shown = terminal.expect("0 turns")
        assert ("\x1b[?25h" in shown) == (end != "raw"), (
            "a program that ends by itself shows its cursor again"
        )
        status = {"raw": 0, "killed": 128 + signal.SIGKILL, "terminated": -signal.SIGTERM}[end]
        assert terminal.process.wait(PATIENCE) == status
        assert terminal.modes == before


@once
def test_a_suspended_agent_continues_where_no_shell_could_continue_it(folder: Path) -> None:
    with interactive(folder) as terminal:
        terminal.expect("ready> ")
        terminal.type("pid\n")
        pid = int(terminal.expect(">\r\n").rpartition("<")[2][:-3])
        os.kill(pid, signal.SIGTSTP)
        terminal.type("call\n")
        terminal.expect("said: Hello")
        terminal.type("\x04")
        assert terminal.process.wait(PATIENCE) == 7


@once
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_ctrl_z_leads_to_the_shell_and_fg_back_to_the_agent(folder: Path) -> None:
    command = f"{sys.executable} -m triocept run --interactive -- {sys.executable} agent.py"
    with Terminal(cwd=folder, shell=("bash", "--norc", "-i"), PS1="shell> ") as terminal:
        terminal.expect("shell> ")
        terminal.type(f"{command}\n")
        terminal.expect("ready> ")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect("shell> ")
        terminal.type("bg\n")
        terminal.expect("shell> ")
        terminal.type("fg\n")
        terminal.expect("agent.py\r\n")
        terminal.type("call\n")
        terminal.expect("said: Hello")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect("shell> ")
        terminal.type("kill %1\n")
        terminal.expect("1 turn")
        terminal.type("echo still $((1 + 1))\n")
        terminal.expect("still 2")
        terminal.type("exec true\n")  # `exit` would only warn if the stopped job has not ended yet
        assert terminal.process.wait(PATIENCE) == 0


@once
def test_a_person_cannot_be_asked_while_the_agent_has_the_terminal(folder: Path) -> None:
    with interactive(folder, "--approve", "Bash") as terminal:
        terminal.expect("which is not possible, because with --interactive the agent has the terminal")
        assert terminal.process.wait(PATIENCE) == 2


@once
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--interactive", "--", "true"),
            "--interactive cannot give the agent the terminal: standard input and",
        ),
        (("--interactive", "--agent", "codex", "--", "x"), "--interactive and --agent exclude each other"),
        (("--cwd", "none", "--", "true"), "Directory 'none' does not exist"),
        (("--cwd", "agent.py", "--", "true"), "Directory 'agent.py' is a file"),
    ],
)
def test_what_cannot_be_is_described_and_nothing_starts(
    arguments: tuple[str, ...], text: str, folder: Path
) -> None:
    done = forked("run", *arguments, timeout=60, cwd=folder)
    assert text in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


@once
def test_a_command_with_a_slash_is_a_path_from_here_and_not_from_the_agents_directory(folder: Path) -> None:
    agent = folder / "agent.sh"
    agent.write_text("#!/bin/sh\npwd\n")
    agent.chmod(0o755)
    done = forked("run", "--cwd", "work", "--", "./agent.sh", timeout=60, cwd=folder)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'work'}\n"), done.stderr
