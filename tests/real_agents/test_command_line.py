"""`triocept run --agent NAME --script FILE -- "prompt"`, with each known agent, as a person types it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real_agents.cases import CASES, PROMPT, Case
from tests.real_agents.stage import Stage
from triocept.fleets import read_results

PLAIN = [
    pytest.param(case, id=case.agent, marks=[pytest.mark.ci] if case.ci else [])
    for case in {case.agent: case for case in reversed(CASES)}.values()
]
"""Each agent once, as its launch makes it unless told otherwise."""


@pytest.mark.parametrize("case", PLAIN)
def test_a_known_agent_is_run_from_the_command_line(
    case: Case, stage: Stage, executable_of: Callable[[str], Path]
) -> None:
    script = f"from triocept import ToolCall\nreplies = {[*case.replies]!r}"
    options = ("--agent", case.agent.replace("_", "-"), "--executable", executable_of(case.agent))
    run = stage.run(script, [PROMPT], *options)
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    assert [turn.outcome for turn in run.trace] == ["answered"] * len(case.replies)
    assert any(PROMPT in message.text for message in run.trace[0].request.messages)
    assert run.trace.sealed
    assert run.stderr.count(" answered ") == len(case.replies)
    assert "agent ended with exit status 0 after" in run.stderr
    if isinstance(case.replies[-1], str):
        assert case.replies[-1].splitlines()[-1].strip("`") in run.stdout


@pytest.mark.ci
@pytest.mark.parametrize("agent", ["claude_code", "codex"])
def test_a_recorded_run_is_replayed_from_the_command_line(
    agent: str, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    case = next(case for case in CASES if case.agent == agent)
    options = ("--agent", agent.replace("_", "-"), "--executable", executable_of(agent))
    for name in ("recorded", "replayed"):
        (tmp_path / name).mkdir()
    script = f"from triocept import ToolCall\nreplies = {[*case.replies]!r}"
    recorded = Stage(tmp_path / "recorded").run(script, [PROMPT], *options)
    replay = ("--replay", tmp_path / "recorded" / "trace.jsonl")
    run = Stage(tmp_path / "replayed").run("replies = []", [PROMPT], *options, *replay)
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    assert [turn.notes["replay"]["turn"] for turn in run.trace] == [turn.id for turn in recorded.trace]


README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^(triocept run --script .*)$", README, re.MULTILINE)]
[SCRIPT] = re.findall(r"```python\n(from triocept import ToolCall\n.*?)```", README, re.DOTALL)
SCRIPTS = [SCRIPT, SCRIPT.replace('"Bash", command=', '"exec_command", cmd=')]
"""For Claude Code, and with the names that Codex has for its tool."""


@pytest.mark.ci
@pytest.mark.parametrize(
    ("agent", "command", "script"), [*zip(["claude_code", "codex"], COMMANDS, SCRIPTS, strict=True)]
)
def test_the_commands_of_the_readme_do_what_they_say(
    agent: str, command: list[str], script: str, stage: Stage, executable_of: Callable[[str], Path]
) -> None:
    """To an agent that may not run the tool, or has none of that name, they would look the same, and end with 0."""
    dashes = command.index("--")
    options = command[command.index("--agent") : dashes] if "--agent" in command else []
    path = f"{executable_of(agent).parent}:{os.environ['PATH']}"
    run = stage.run(script, command[dashes + 1 :], *options, PATH=path)
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    assert "but the agent offers only" not in run.stderr


@pytest.mark.ci
@pytest.mark.parametrize("agent", ["claude_code", "codex"])
def test_a_fleet_runs_a_known_agent_on_each_prompt_of_a_file(
    agent: str, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    case = next(case for case in CASES if case.agent == agent)
    (tmp_path / "script.py").write_text(f"from triocept import ToolCall\nreplies = {[*case.replies]!r}")
    (tmp_path / "tasks.jsonl").write_text("".join(f'{{"prompt": "{PROMPT}", "id": {n}}}\n' for n in range(2)))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "triocept", "fleet", "--tasks", "tasks.jsonl", "--store", "run"),
            *("--script", "script.py", "--engine", "processes:1", "--group-size", "2"),
            *("--agent", agent.replace("_", "-"), "--executable", executable_of(agent)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "▸ store    run: 4 of 4 done" in run.stderr
    for result in read_results(tmp_path / "run"):
        (trace,) = result.traces
        assert [turn.outcome for turn in trace] == ["answered"] * len(case.replies)
        last = trace[len(case.replies) - 1].request
        assert any(PROMPT in message.text for message in last.messages)
        assert last.tool_results, "its tool ran"
    assert not (tmp_path / "proof.txt").exists(), "each worked in a directory of its own"
