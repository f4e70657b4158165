"""`--json`: events on standard output, and everything else on standard error."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from cli_helpers import AGENT, PATIENCE, STARTER

import triocept._cli.demo
from tests.cli.cli_forks import triocept as forked
from triocept.traces import RolloutEvent

pytestmark = pytest.mark.once

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text()
SHORT_FORM = REFERENCE.partition("## The short form")[2].partition("\n## ")[0]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_prints_each_event_as_a_line_and_the_rest_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'async def answer(exchange):\n    print("by the handler")\n    await exchange.respond("hello")\n'
    )
    (tmp_path / "policy.yaml").write_text("'*': approve\n")
    options = ("--json", "--handler", "mine.py:answer", "--policy", "policy.yaml")
    done = forked("run", *options, "--", sys.executable, "-c", AGENT, "3", "a", "b", timeout=60, cwd=tmp_path)
    assert done.returncode == 3
    found = events(done.stdout)
    assert [each["number"] for each in found] == list(range(len(found)))
    names = [each["event"] for each in found if each["event"] != "IncrementSent"]
    call = ["CallArrived", "TurnSettled"]
    assert names == ["RolloutOpened", "AgentStarted", *call, *call, "AgentEnded", "RolloutEnded"]
    (first, _) = [each for each in found if each["event"] == "TurnSettled"]
    assert (first["text"], first["outcome"], first["turn"]) == ("hello", "answered", 0)
    assert found[-2]["returncode"] == 3
    assert found[-1]["turns"] == 2
    assert done.stderr.count("said: hello") == 2
    assert "by the handler" in done.stderr
    assert "2 turns" in done.stderr


def test_the_reference_describes_the_fields_of_each_line(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", SHORT_FORM, re.MULTILINE))
    assert set(rows) == {kind.__name__ for kind in get_args(RolloutEvent)}
    (tmp_path / "policy.yaml").write_text("'*': approve\n")
    calls = [{"tool": "write_file", "arguments": {"path": "x", "text": "y"}}, "done"]
    (tmp_path / "s.json").write_text(json.dumps(calls))
    agent = (sys.executable, str(triocept._cli.demo.AGENT), "go")
    options = ("--json", "--script", "s.json", "--policy", "policy.yaml")
    done = forked("run", *options, "--", *agent, timeout=60, cwd=tmp_path)
    seen = set()
    for each in events(done.stdout):
        own = {name for name in each if f"`{name}`" not in rows[each["event"]]}
        assert own == {"event", "rollout", "number", "at"}, each
        seen.add(each["event"])
    assert {"DecisionAsked", "DecisionMade", "TurnSettled"} <= seen


def test_a_signal_ends_a_served_rollout_with_its_last_event(tmp_path: Path) -> None:
    words = [sys.executable, "-c", STARTER, "", "serve", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("export TRIOCEPT_URL") for line in process.stderr)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert [each["event"] for each in events(out)] == ["RolloutOpened", "RolloutEnded"]


@pytest.mark.parametrize("reader", ["gone", "slow"])
def test_a_reader_that_takes_nothing_delays_no_agent(reader: str) -> None:
    """The agent ends, and the command: at once if there is no reader, else after a signal."""
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "triocept", "run", "--json", "--", sys.executable, "-c", AGENT, "0"]
    long = ["x" * 1000] * 60  # more than a pipe holds
    with subprocess.Popen([*command, *long], stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        if reader == "gone":
            os.close(ours)
        try:
            assert process.stderr is not None
            assert any("agent ended with exit status 0" in line for line in process.stderr)
            if reader == "slow":
                process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(PATIENCE) == (0 if reader == "gone" else -signal.SIGINT)
        finally:
            process.kill()
            if reader == "slow":
                os.close(ours)


def test_the_terminal_is_the_agents_or_the_events(tmp_path: Path) -> None:
    done = forked("run", "--json", "--interactive", "--", "true", timeout=60)
    assert done.returncode == 2
