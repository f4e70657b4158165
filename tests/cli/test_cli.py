"""The commands, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from triocept import read_traces

AGENT = """
import json, os, sys, urllib.request
for text in sys.argv[2:]:
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        print("said:", json.load(response)["choices"][0]["message"]["content"], flush=True)
sys.exit(int(sys.argv[1]))
"""


def triocept(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triocept", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_run_shows_each_exchange_and_ends_with_the_agents_exit_code(tmp_path: Path) -> None:
    script, record = tmp_path / "s.json", tmp_path / "t.jsonl"
    script.write_text(json.dumps(["one", "two"]))
    done = triocept(
        "run", "--script", script, "--record", record, "--", sys.executable, "-c", AGENT, "7", "a", "b"
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == "said: one\nsaid: two\n"
    assert done.stderr.count("answered") == 2
    assert "openai_chat" in done.stderr
    assert "ended with 7" in done.stderr
    (trace,) = read_traces(record)
    assert trace.sealed
    assert [turn.response.text for turn in trace if turn.response] == ["one", "two"]


def test_run_without_a_script_answers_with_a_friendly_sentence() -> None:
    done = triocept("run", "--", sys.executable, "-c", AGENT, "0", "a")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("said: Hello from triocept")


def test_quiet_shows_the_agents_output_only() -> None:
    done = triocept("run", "--quiet", "--", sys.executable, "-c", AGENT, "0", "a")
    assert done.stderr == ""
    assert done.stdout.startswith("said: ")


def test_options_behind_the_command_are_the_agents() -> None:
    done = triocept("run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--help", "--script", "x")
    assert done.stdout == "['--help', '--script', 'x']\n"


def test_a_script_that_runs_out_says_so_and_shows_the_request(tmp_path: Path) -> None:
    script = tmp_path / "s.json"
    script.write_text('["one"]')
    done = triocept("run", "--script", script, "--", sys.executable, "-c", AGENT, "0", "a", "what now")
    assert done.returncode == 1
    assert "no reply left after 1" in done.stderr
    assert "user: what now" in done.stderr
    assert "Traceback" not in done.stderr.replace("urllib", "").split("Error:")[-1]


def test_a_wrong_command_and_a_wrong_script_are_clear_errors(tmp_path: Path) -> None:
    done = triocept("run", "--", "no-such-agent-anywhere", "-p")
    assert done.returncode == 1
    assert "no-such-agent-anywhere" in done.stderr
    assert "Traceback" not in done.stderr
    script = tmp_path / "s.json"
    script.write_text("{")
    done = triocept("run", "--script", script, "--", "true")
    assert "not valid JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_runs_a_tool_loop_and_ends_well(tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    done = triocept("demo", "--record", record, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Hello from a model that is a trio program." in done.stdout
    (trace,) = read_traces(record)
    calls = [call.name for turn in trace for call in (turn.response.tool_calls if turn.response else ())]
    assert calls == ["write_file", "read_file"]
    assert len(trace.threads) == 1
