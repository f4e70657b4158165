"""What a person reads of a run that did not go as they thought."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cli_helpers import AGENT, PATIENCE, PATIENT_STARTER, STARTER, on_a_terminal

from triocept._util.terminal import Screen

pytestmark = pytest.mark.once

TOOL_AGENT = """
import json, os, urllib.request
messages = [{"role": "user", "content": "go"}]
while True:
    tools = [{"type": "function", "function": {"name": "tool_%d" % n, "parameters": {}}} for n in range(12)]
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": messages, "tools": tools}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        message = json.load(response)["choices"][0]["message"]
    messages.append(message)
    if not message.get("tool_calls"):
        break
    for call in message["tool_calls"]:
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": "it gave\\nthis"})
"""


def ran(
    *arguments: str | Path,
    agent: str = AGENT,
    words: tuple[str, ...] = ("0", "a"),
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "triocept",
        "run",
        *map(str, arguments),
        "--",
        sys.executable,
        "-c",
        agent,
        *words,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})}
    )


def script(folder: Path, *replies: object) -> Path:
    path = folder / "s.json"
    path.write_text(json.dumps(replies))
    return path


def test_a_call_of_a_tool_that_the_agent_has_not_is_said_with_those_that_it_has(tmp_path: Path) -> None:
    """Codex has no Bash: it does nothing, and ends with 0."""
    replies = script(tmp_path, {"tool": "Bash"}, {"tool": "tool_3"}, "done")
    done = ran("--script", replies, agent=TOOL_AGENT, words=())
    (told,) = [line for line in done.stderr.splitlines() if "but the agent offers only" in line]
    assert "the answer calls Bash, but the agent offers only tool_0, tool_1, tool_2" in told
    assert told.endswith("tool_9, and 2 more")


def test_what_a_tool_gave_stands_in_the_next_line(tmp_path: Path) -> None:
    done = ran("--script", script(tmp_path, {"tool": "tool_3"}, "done"), agent=TOOL_AGENT, words=())
    (line,) = [line for line in done.stderr.splitlines() if "'done'" in line]
    assert "← 'it gave this' 'done'" in line


def test_a_reason_has_a_line_of_its_own_and_is_whole(tmp_path: Path) -> None:
    reason = "because " * 40 + "of this"
    done = ran("--script", script(tmp_path, {"refuse": 404, "message": reason}), env={"COLUMNS": "80"})
    assert [line for line in done.stderr.splitlines() if line.endswith(f"404 {reason}")], done.stderr


def test_a_status_is_not_told_twice() -> None:
    done = ran("--upstream", "http://127.0.0.1:9/v1", "--model", "m")
    assert "502 from " in done.stderr
    assert "502 502" not in done.stderr


def test_outcomes_are_counted_apart_and_replies_left_over_are_said(tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    replies = script(tmp_path, "a", 0.01, "b", "c", "d")
    done = ran("--max-turns", "2", "--script", replies, "--record", record, words=("0", "a", "b", "c"))
    assert f"3 turns (2 answered, 1 refused) recorded in {record}\n" in done.stderr
    assert "2 of 4 replies of the script were not used" in done.stderr
    done = ran("--script", script(tmp_path, "a", "b"))
    assert "1 turn\n" in done.stderr
    assert "1 of 2 replies of the script was not used" in done.stderr
    assert "replies" not in ran("--script", script(tmp_path, "a")).stderr


def test_a_run_that_was_stopped_is_not_said_to_have_asked_somebody_else() -> None:
    done = ran("--max-seconds", "0", agent="pass")
    assert "stopped: " in done.stderr
    assert "triocept received no model call" not in done.stderr


def test_an_error_ends_a_run_with_what_was_recorded(tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    done = ran("--script", script(tmp_path, "one"), "--record", record, words=("0", "a", "b"))
    assert done.returncode == 1
    assert f"2 turns (1 answered, 1 failed) recorded in {record}\n" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_signal_ends_a_command_with_what_was_recorded(command: str, tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    agent = AGENT.replace("sys.exit(", "print('export', flush=True); import time; time.sleep(60); sys.exit(")
    rest = ("--", sys.executable, "-c", agent, "0", "a") if command == "run" else ()
    prices = ("--price", "*=1000,1000")
    words = [sys.executable, "-c", STARTER, "", command, "--record", str(record), *prices, *rest]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while "export" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert (
        f"{1 if command == 'run' else 0} turn{'' if command == 'run' else 's'} recorded in {record}\n" in err
    )
    assert "cost " in err or command == "serve"


def test_an_agent_that_takes_its_time_to_end_is_said_with_the_way_to_kill_it() -> None:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    agent = f"{ignore}; print('on', flush=True); time.sleep(600)"
    words = [sys.executable, "-c", PATIENT_STARTER, "", "run", "--", sys.executable, "-c", agent]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "on\n"
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert [
                line for line in process.stderr if "to kill the agent" in line and not process.send_signal(2)
            ]
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT


def test_lines_that_a_screen_did_not_take_are_counted_and_told_of_when_it_takes_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as shown, open(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        screen = Screen()
        os.set_blocking(writer, False)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(writer, b"x" * 4096)
        screen.write("one\n")
        screen.write("two\nthree\n")
        assert shown.read(filled) == b"x" * filled
        screen.write("four\n")
        stderr.close()
        assert shown.read() == b"(3 lines were not shown, because standard error did not accept them)\nfour\n"


def test_a_narrow_terminal_shows_what_the_tools_gave_and_the_answer_in_lines_of_their_own(
    tmp_path: Path,
) -> None:
    path = script(tmp_path, {"tool": "tool_1", "arguments": {"text": "x" * 100}}, "All done.")
    arguments = ("run", "--script", str(path), "--", sys.executable, "-c", TOOL_AGENT)
    lines = on_a_terminal(*arguments, columns=72, kind="dumb").splitlines()
    assert "      'All done.'" in lines
    assert "      ← 'it gave this'" in lines
    (call,) = [line for line in lines if line.startswith("      tool_1(")]
    assert len(call) == 72
    assert call.endswith("…")
