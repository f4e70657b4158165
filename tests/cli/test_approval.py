"""`--policy` and `--approve`: decisions on tool calls, by a file and by a person at a terminal."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import PATIENCE
from cli_terminal import Terminal

import triocept._cli.demo
from tests.cli.cli_forks import triocept as forked
from triocept import read_traces
from triocept.fleets import read_results

pytestmark = pytest.mark.once

AGENT = ("--", sys.executable, str(triocept._cli.demo.AGENT), "go")
CALLS: list[Any] = [
    {"tool": "write_file", "arguments": {"path": "x.txt", "text": "hello"}},
    {"tool": "read_file", "arguments": {"path": "x.txt"}},
    "done",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.json").write_text(json.dumps(CALLS))
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked("run", "--script", "s.json", *arguments, *AGENT, timeout=60, cwd=folder)


def decided(folder: Path) -> list[tuple[str, str, str]]:
    (trace,) = read_traces(folder / "t.jsonl")
    return [(each.tool, each.kind, each.by) for turn in trace for each in turn.decisions]


def test_a_file_decides(folder: Path) -> None:
    (folder / "policy.yaml").write_text("read_file: approve\n'write_*': {reject: not here}\n")
    done = run(folder, "--policy", "policy.yaml", "--record", "t.jsonl")
    assert not (folder / "x.txt").exists()
    assert decided(folder)[0] == ("write_file", "reject", "policy file")
    assert "running write_file" not in done.stdout
    assert "running read_file" in done.stdout


def test_the_tools_of_approve_are_asked_about_and_the_others_run(folder: Path) -> None:
    arguments = ("run", "--script", "s.json", "--record", "t.jsonl", "--approve", "write_file")
    with Terminal(*arguments, *AGENT, cwd=folder) as terminal:
        assert 'write_file {"path":"x.txt","text":"hello"}' in terminal.expect("[t]erminate: ")
        assert not (folder / "x.txt").exists()
        terminal.type("y\n")
        assert "run it?" not in terminal.expect("the model says: done")
        assert terminal.process.wait(PATIENCE) == 0
    assert decided(folder) == [("write_file", "approve", "terminal"), ("read_file", "approve", "--approve")]


def test_every_tool_may_be_asked_about_and_what_was_typed_before_a_question_is_no_answer(
    folder: Path,
) -> None:
    (folder / "s.json").write_text(
        json.dumps([{"tool": "read_file", "arguments": {"path": "s.json"}}, "done"])
    )
    arguments = ("run", "--script", "s.json", "--record", "t.jsonl", "--approve", "*")
    with Terminal(*arguments, *AGENT, cwd=folder) as terminal:
        terminal.type("y\n")
        terminal.expect("[t]erminate: ")
        terminal.type("n\n")
        terminal.expect("reason for the model: ")
        terminal.type("not now\n")
        terminal.expect("the model says: done")
        assert terminal.process.wait(PATIENCE) == 0
    assert decided(folder) == [("read_file", "reject", "terminal")]


def test_a_mistyped_tool_is_reported_and_every_call_is_asked_about(folder: Path) -> None:
    arguments = ("run", "--script", "s.json", "--record", "t.jsonl", "--approve", "Write_file")
    with Terminal(*arguments, *AGENT, cwd=folder) as terminal:
        shown = terminal.expect("[t]erminate: ")
        assert "--approve Write_file: the agent offers no tool of this name" in shown
        assert "did you mean write_file?" in shown
        terminal.type("y\n")
        assert "offers no tool of this name" not in terminal.expect("[t]erminate: ")
        terminal.type("y\n")
        terminal.expect("the model says: done")
        assert terminal.process.wait(PATIENCE) == 0
    assert [kind for _, kind, _ in decided(folder)] == ["approve", "approve"]


def test_the_file_decides_before_the_person_and_what_neither_decides_is_rejected(folder: Path) -> None:
    (folder / "policy.yaml").write_text("other: approve\nwrite_file: escalate\n")
    arguments = ("run", "--script", "s.json", "--policy", "policy.yaml", "--record", "t.jsonl")
    with Terminal(*arguments, "--approve", "write_file,other2", *AGENT, cwd=folder) as terminal:
        assert "write_file" in terminal.expect("[t]erminate: ")
        terminal.type("y\n")
        assert "run it?" not in terminal.expect("the model says: done")
        assert terminal.process.wait(PATIENCE) == 0
    assert decided(folder) == [("write_file", "approve", "terminal"), ("read_file", "reject", "default")]


def test_the_person_is_not_asked_about_what_the_file_decides(folder: Path) -> None:
    (folder / "policy.yaml").write_text("read_file: approve\n")
    arguments = ("run", "--script", "s.json", "--policy", "policy.yaml", "--record", "t.jsonl")
    with Terminal(*arguments, "--approve", "*", *AGENT, cwd=folder) as terminal:
        assert "write_file" in terminal.expect("[t]erminate: ")
        terminal.type("y\n")
        assert "run it?" not in terminal.expect("the model says: done")
        assert terminal.process.wait(PATIENCE) == 0
    assert decided(folder) == [("write_file", "approve", "terminal"), ("read_file", "approve", "policy file")]


@pytest.mark.parametrize("end", ["interrupt", "agent", "end of file"])
def test_a_question_that_is_not_answered_ends_with_the_run(end: str, folder: Path) -> None:
    arguments = ("run", "--script", "s.json", "--approve", "write_file")
    agent = ("--", "sh", "-c", f"echo $$ > pid; exec {sys.executable} {AGENT[2]} go")
    with Terminal(*arguments, *agent, cwd=folder) as terminal:
        terminal.expect("[t]erminate: ")
        if end == "agent":
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        else:
            terminal.type({"interrupt": "\x03", "end of file": "\x04"}[end])
        shown = terminal.expect("1 turn (1 ")
        if end == "end of file":
            shown = terminal.expect(
                "Error: ask_terminal needs a person who answers at a terminal, but standard input has ended"
            )
        else:
            assert "this question needs no answer any more" in shown
        status = {"interrupt": -signal.SIGINT, "agent": 128 + signal.SIGTERM, "end of file": 1}[end]
        assert terminal.process.wait(PATIENCE) == status
    assert "Traceback" not in terminal.shown
    assert not (folder / "x.txt").exists()


@pytest.mark.parametrize(
    ("policy", "arguments", "text"),
    [
        (None, ("--approve", "Bash"), "--approve Bash asks a person in the terminal, which is not possible, because "),
        (None, ("--approve", "a,,b"), "the name of a tool is empty"),
        (None, ("--policy", "none.yaml"), "File 'none.yaml' does not exist"),
        ("a: ask", ("--policy", "policy.yaml"), "--policy policy.yaml asks a person"),
        ("a: approv", ("--policy", "policy.yaml"), "unknown decision 'approv'"),
        ("- a", ("--policy", "policy.yaml"), "a policy must be a mapping from tools to decisions"),
        ("a: approve", ("--policy", "policy.yaml", "--approve", "a"), "decides on these calls first (a: approve)"),
        ("a: escalate\n'*': reject", ("--policy", "policy.yaml", "--approve", "a"), "(*: reject)"),
        ("'b*': approve", ("--policy", "policy.yaml", "--approve", "bc"), "write b*: escalate in the file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "serve"])
def test_what_cannot_be_decided_is_described_and_nothing_starts(
    command: str, policy: str | None, arguments: tuple[str, ...], text: str, folder: Path
) -> None:
    if policy is not None:
        (folder / "policy.yaml").write_text(policy)
    agent = ("--", "touch", "started") if command == "run" else ()
    done = forked(command, *arguments, *agent, timeout=60, cwd=folder)
    assert text in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (folder / "started").exists()


@pytest.mark.parametrize("engine", ["in-process:1", "processes:1"])
def test_a_file_decides_for_a_fleet(engine: str, folder: Path) -> None:
    (folder / "tasks.jsonl").write_text('{"prompt": "go"}\n')
    (folder / "policy.yaml").write_text("'*': {reject: not here}\n")
    command = ("--engine", engine, *AGENT[:-1], "{prompt}")
    fleet = (
        "fleet",
        "--tasks",
        "tasks.jsonl",
        "--store",
        "store",
        "--script",
        "s.json",
        "--policy",
        "policy.yaml",
    )
    done = forked(*fleet, *command, timeout=PATIENCE, cwd=folder)
    assert done.returncode == 0, done.stderr
    (result,) = read_results(folder / "store")
    assert "running" not in result.value["output"]
    assert "the model says: done" in result.value["output"]
    (folder / "policy.yaml").write_text("'*': ask\n")
    done = forked(*fleet, *command, timeout=60, cwd=folder)
    assert (done.returncode, "agents of a fleet have no terminal" in done.stderr) == (2, True)
