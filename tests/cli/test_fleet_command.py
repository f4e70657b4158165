"""`triocept fleet`: prompts in, traces and results out; what is wrong is said before anything starts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import PATIENCE, STARTER
from click.testing import CliRunner

from tests.cli.cli_forks import triocept
from triocept import read_traces
from triocept._cli.commands import main
from triocept.fleets import Outcome, Result, read_results
from triocept.fleets.store.reading import trace_files

AGENT = """
import json, os, sys, time, urllib.request
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    json.dumps({"model": "m", "messages": [{"role": "user", "content": sys.argv[1]}]}).encode(),
    {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
)
said = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
print(said, sys.argv[1], *sorted(os.listdir(".")), "UPSTREAM_KEY" in os.environ)
open("written", "w").close()
if "bad" in sys.argv[1]:
    sys.exit("it went bad")
if "wait" in sys.argv[1]:
    time.sleep(100)
"""
"""A real process of one call, which says what it sees."""
AGENT_COMMAND = ("--", sys.executable, "-S", "-c", AGENT, "{prompt}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.yaml").write_text("- first\n- second\n")
    return tmp_path


def write_tasks(*tasks: dict[str, Any]) -> None:
    Path("tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))


def words(*arguments: str, command: tuple[str, ...] = AGENT_COMMAND) -> list[str]:
    """With the usual tasks, store and engine, unless the arguments say others."""
    usual = {"--tasks": "tasks.jsonl", "--store": "run", "--engine": "in-process:4"}
    more = [word for name, value in usual.items() if name not in arguments for word in (name, value)]
    return ["fleet", *more, *arguments, *command]


def fleet(*arguments: str, command: tuple[str, ...] = AGENT_COMMAND) -> subprocess.CompletedProcess[str]:
    return triocept(*words(*arguments, command=command), timeout=PATIENCE)


def refused(*arguments: str, command: tuple[str, ...] = AGENT_COMMAND) -> str:
    """What is said by one that ends before it has an event loop."""
    result = CliRunner().invoke(main, words(*arguments, command=command))
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.output


def results(store: str = "run") -> dict[tuple[str, int], Result[Any, Any]]:
    return {(result.key or "", result.sample): result for result in read_results(store)}


@pytest.mark.parametrize("engine", ["in-process:1", "processes:1"])
def test_known_keys_are_nowhere_in_a_store_where_that_is_asked_for(folder: Path, engine: str) -> None:
    key = "AKIAIOSFODNN7EXAMPLE"
    (folder / "script.yaml").write_text(f"- it is {key}\n")
    write_tasks({"prompt": "do it", "id": "a"})
    run = fleet("--script", "script.yaml", "--engine", engine, "--redact-known-keys")
    assert run.returncode == 0, run.stderr
    assert [result.value["output"] for result in results().values()] == ["it is [redacted] do it False\n"]
    assert [file for file in (folder / "run").rglob("*") if file.is_file() and key in file.read_text()] == []
    (trace,) = [trace for file in trace_files(Path("run")) for trace in read_traces(file)]
    assert trace[0].response.text == "it is [redacted]"


def test_prompts_become_traces_and_results(folder: Path) -> None:
    write_tasks({"prompt": "do a", "id": "a", "metadata": {"split": "train"}}, {"prompt": "do b"})
    run = fleet("--script", "script.yaml")
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    found = results()
    value = found["a", 0].value
    assert (value["output"], value["returncode"], value["turns"]) == ("first do a False\n", 0, 1)
    assert value["stopped"] is None
    (trace,) = found["a", 0].traces
    assert trace.sealed
    assert trace.metadata["split"] == "train"
    assert len(found) == 2
    assert {result.value["output"].split()[0] for result in found.values()} == {"first"}, "each begins anew"
    lines = run.stderr.splitlines()
    assert re.match(r"▸ rollout: 2 in \S+: 2 done, ", lines[0])
    assert lines[1:] == ["▸ store    run: 2 of 2 done"]


@pytest.mark.once
def test_workers_may_be_processes_and_each_task_be_run_several_times(folder: Path) -> None:
    write_tasks(*({"prompt": f"do {n}", "id": n} for n in range(3)))
    run = fleet("--engine", "processes:2", "--slots-per-worker", "2", "--group-size", "2")
    assert run.returncode == 0, run.stderr
    assert sorted(results()) == [(str(n), sample) for n in range(3) for sample in range(2)]
    assert "6 of 6 done" in run.stderr


def test_each_agent_works_in_a_copy_of_the_workspace_that_is_gone_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "ws" / "deep").mkdir(parents=True)
    (folder / "ws" / "seed").write_text("seed")
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    write_tasks(*({"prompt": f"do {n}"} for n in range(3)))
    run = fleet("--workspace", "ws")
    assert run.returncode == 0, run.stderr
    assert {result.value["output"].partition("do ")[2][2:] for result in results().values()} == {
        "deep seed False\n"
    }
    assert sorted(os.listdir("ws")) == ["deep", "seed"]
    assert os.listdir("tmp") == []


def test_an_agent_that_ends_badly_has_failed_and_is_run_again_when_that_is_asked_for(folder: Path) -> None:
    write_tasks({"prompt": "a bad one", "id": "x"}, {"prompt": "a good one", "id": "y"})
    run = fleet()
    assert run.returncode == 1
    outcome = results()["x", 0].outcome
    assert isinstance(outcome, Outcome.Error)
    assert "its stderr ends with:\nit went bad" in str(outcome.error)
    assert "▸ store    run: 1 of 2 done, 1 failed" in run.stderr
    assert "the last failure: task x: triocept.errors.AgentFailed: agent " in run.stderr
    resumed = fleet("--resume")
    assert resumed.returncode == 1, "what failed has failed"
    assert "all 2 were done in an earlier run" in resumed.stderr
    again = fleet("--resume", "--retry-errors")
    assert again.returncode == 1
    assert "0 done, 1 failed (1 AgentFailed), 1 done before" in again.stderr
    assert isinstance(results()["y", 0].outcome, Outcome.Value)


def test_a_run_that_cannot_succeed_ends_after_so_many_failures(folder: Path) -> None:
    write_tasks(*({"prompt": f"a bad one, {number}"} for number in range(30)))
    run = fleet("--fail-on-error", "0.1")
    assert run.returncode == 1
    assert "the run ends, because 3 rollouts failed (--fail-on-error)" in run.stderr
    assert 3 <= len(results()) <= 3 + 5
    assert "the same command with --resume" in run.stderr


def test_failures_of_earlier_runs_of_a_store_count_for_the_limit(folder: Path) -> None:
    write_tasks(*({"prompt": "a bad one", "id": number} for number in range(2)))
    assert fleet().returncode == 1
    write_tasks(*({"prompt": "a bad one", "id": number} for number in range(9)))
    run = fleet("--resume", "--fail-on-error", "2")
    assert run.returncode == 1
    assert (
        "2 rollouts had failed before this command, so it runs no further task (--fail-on-error)"
        in run.stderr
    )
    assert len(results()) == 2
    run = fleet("--resume", "--fail-on-error", "3", "--engine", "in-process:1")
    assert "the run ends, because 3 rollouts failed (--fail-on-error)" in run.stderr
    assert 3 <= len(results()) <= 4
    run = fleet("--resume", "--retry-errors", "--fail-on-error", "1", "--engine", "in-process:1")
    assert "the run ends, because 1 rollout failed (--fail-on-error)" in run.stderr, (
        "what is run again has not failed yet"
    )


def test_each_agent_gets_the_variables_and_options_that_the_command_line_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-mistral")
    (folder / "llm").write_text('#!/bin/sh\necho "$GIVEN $MISTRAL_API_KEY"; printf "%s|" "$@"\n')
    (folder / "llm").chmod(0o755)
    write_tasks({"prompt": "the prompt", "id": "x"})
    usual = (
        "--agent",
        "claude-code",
        "--executable",
        str(folder / "llm"),
        "--env",
        "GIVEN=a=b",
        "--env",
        "MISTRAL_API_KEY",
    )
    run = fleet(*usual, command=("--", "--max-turns", "5"))
    assert run.returncode == 1, run.stderr  # it made no model call
    assert (
        results()["x", 0].value["output"]
        == "a=b sk-mistral\n-p|the prompt|--dangerously-skip-permissions|--max-turns|5|"
    )
    assert "sk-mistral" not in Path("run/run.json").read_text()
    assert fleet("--resume", *usual, command=("--", "--", "--max-turns", "5")).returncode == 1, "as in `run`"
    assert (
        "this store belongs to another run: its setting agent_options"
        in fleet("--resume", *usual, command=()).stderr
    )
    assert (
        "this store belongs to another run: its setting env"
        in fleet("--resume", *usual[:-2], command=("--", "--max-turns", "5")).stderr
    )


def test_errors_of_a_fleet_name_options_and_no_arguments(folder: Path) -> None:
    write_tasks({"prompt": "wait", "id": "w"})
    run = fleet("--rollout-timeout", "3")
    assert "the call took longer than --rollout-timeout 3" in run.stderr
    write_tasks({"prompt": "changed", "id": "w"})
    run = fleet("--resume")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith("under this id: give it a new id")


def test_the_first_tasks_are_run_alone_and_the_others_by_a_resume(folder: Path) -> None:
    write_tasks(*({"prompt": "a good one", "id": number} for number in range(5)))
    run = fleet("--limit", "2")
    assert (run.returncode, sorted(results())) == (0, [("0", 0), ("1", 0)])
    assert "2 of 2 done" in run.stderr
    assert "3 done, 2 done before" in fleet("--resume").stderr


def test_a_rollout_that_takes_too_long_has_failed(folder: Path) -> None:
    write_tasks({"prompt": "wait", "id": "w"})
    run = fleet("--rollout-timeout", "3")
    assert run.returncode == 1
    outcome = results()["w", 0].outcome
    assert isinstance(outcome, Outcome.Error)
    assert "TooSlowError" in str(outcome.error)


def test_a_rollout_that_a_limit_has_ended_is_done(folder: Path) -> None:
    write_tasks({"prompt": "do it", "id": "x"})
    run = fleet("--max-turns", "0")
    assert run.returncode == 0, run.stderr
    value = results()["x", 0].value
    assert "turns" in value["stopped"]
    assert value["returncode"] != 0


def test_a_known_agent_is_started_as_its_launch_says(folder: Path) -> None:
    (folder / "llm").write_text('#!/bin/sh\nfor last; do :; done\necho "$last"\n')
    (folder / "llm").chmod(0o755)
    write_tasks({"prompt": "the prompt", "id": "x"})
    run = fleet("--agent", "claude-code", "--executable", str(folder / "llm"), command=())
    assert run.returncode == 1
    assert "▸ store    run: 1 of 1 done, but no agent called the model" in run.stderr
    assert (
        "the prompt" in results()["x", 0].value["output"]
        or "--dangerously" in results()["x", 0].value["output"]
    )


def test_a_line_that_is_no_task_is_told_with_its_number_and_nothing_starts(folder: Path) -> None:
    Path("tasks.jsonl").write_bytes(
        b'{"prompt": "a"}\n{"promt": "b"}\n\nno json\n{"prompt": "a"}\n{"prompt": "x", "id": 1}\n'
        b'{"prompt": "y", "id": "1"}\n{"prompt": 3}\n{"prompt": " "}\n\xff\n{"prompt": "z", "id": true}\n'
    )
    told = re.findall(r"tasks\.jsonl:(\d+): (.*)", refused())
    assert [int(number) for number, _ in told] == [2, 4, 5, 7, 8, 9, 10, 11]
    assert told[0][1] == "unknown field 'promt'; did you mean prompt?"
    assert "line 1 is the same" in told[2][1]
    assert told[4][1].startswith("prompt must be a text, not 3; a line must have the form {")
    assert told[7][1].startswith("id must be a whole number or a text, not true; a line must have the form {")
    assert told[3][1] == "line 6 has the same id, '1': give each task its own id"
    assert not Path("run").exists()


def test_a_field_that_fleet_does_not_have_names_what_to_do(folder: Path) -> None:
    write_tasks({"prompt": "a", "target": "b"}, {"input": "a"}, {"prompt": "a", "colour": 1})
    told = re.findall(r"tasks\.jsonl:\d+: (.*)", refused())
    assert told[:2] == [
        "target is a field of triocept eval: use triocept eval, or put it into metadata",
        "input is a field of triocept eval: name it prompt",
    ]
    assert told[2].startswith(
        "unknown field 'colour'; put your own data into metadata; a line must have the form"
    )


def test_a_line_that_is_no_closed_object_is_described(folder: Path) -> None:
    Path("tasks.jsonl").write_text('{"prompt": "a"\n[1]\n{"prompt": "a", "metadata": 1}\n')
    told = re.findall(r"tasks\.jsonl:\d+: (.*?);", refused())
    assert told == [
        "the JSON object is not closed",
        "a task must be a JSON object, not [1]",
        "metadata must be a JSON object, not 1",
    ]


def test_of_many_bad_lines_the_first_are_told(folder: Path) -> None:
    Path("tasks.jsonl").write_text("x\n" * 1000)
    said = refused()
    assert len(said.splitlines()) < 20
    assert "and 990 more" in said


def test_a_file_without_a_task_is_told(folder: Path) -> None:
    Path("tasks.jsonl").write_text("\n\n")
    assert "tasks.jsonl contains no task" in refused()


@pytest.mark.parametrize(
    ("arguments", "command", "told"),
    [
        ((), (), "no agent is named: give --agent NAME"),
        ((), ("--", "true"), "COMMAND does not contain {prompt}"),
        ((), ("--", "no-such-program", "{prompt}"), "there is no program 'no-such-program' on the PATH"),
        (("--agent", "kimi-code"), (), "kimi-code; or give its path with --executable"),
        (("--agent", "codex"), AGENT_COMMAND, "exclude each other"),
        (("--executable", "x"), AGENT_COMMAND, "needs --agent NAME"),
        (("--engine", "threads"), AGENT_COMMAND, "unknown engine; the engines are in-process"),
        (("--engine", "processes:0"), AGENT_COMMAND, "the number after the colon must be 1 or more, not '0'"),
        (("--engine", "processes:2", "--workers", "3"), AGENT_COMMAND, "give different numbers"),
        (("--engine", "in-process:2", "--slots-per-worker", "3"), AGENT_COMMAND, "give different numbers"),
        (("--engine", "in-process", "--workers", "3"), AGENT_COMMAND, "has one worker"),
        (("--resume",), AGENT_COMMAND, "there is no run in run to continue"),
        (("--retry-errors",), AGENT_COMMAND, "--retry-errors needs --resume"),
        (("--script", "script.yaml", "--upstream", "http://127.0.0.1:1"), AGENT_COMMAND, "exclude each other"),
        (("--tasks", "nowhere.jsonl"), AGENT_COMMAND, "'nowhere.jsonl' does not exist"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_command_line_is_said_and_nothing_starts(
    arguments: tuple[str, ...],
    command: tuple[str, ...],
    told: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    write_tasks({"prompt": "a"})
    assert told in refused(*arguments, command=command)
    assert not Path("run").exists()


@pytest.mark.once
@pytest.mark.parametrize("engine", ["in-process:4", "processes:1"])
def test_a_real_model_answers_all_rollouts_and_no_agent_sees_its_key(
    engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tasks(*({"prompt": f"do {n}", "id": n} for n in range(3)))
    serve = [sys.executable, "-m", "triocept", "serve", "--quiet"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as provider:
        try:
            said: dict[str, str] = {}
            while not {"key", "base URL for openai_chat"} <= said.keys():
                name, _, value = provider.stdout.readline().strip().removeprefix("# ").partition(": ")
                said[name] = value
            monkeypatch.setenv("UPSTREAM_KEY", said["key"])
            url = said["base URL for openai_chat"]
            options = ("--upstream", url, "--api-key-env", "UPSTREAM_KEY", "--model", "qwen")
            run = fleet(*options, "--engine", engine)
        finally:
            provider.kill()
    assert run.returncode == 0, run.stderr
    outputs = [result.value["output"] for result in results().values()]
    assert len(outputs) == 3
    assert all(output.startswith("Hello from triocept") and output.endswith("False\n") for output in outputs)
    assert said["key"] not in "".join(path.read_text() for path in Path("run").rglob("*") if path.is_file())
    assert json.loads(Path("run/run.json").read_text())["settings"]["model"] == "qwen"


def test_an_upstream_that_nobody_answers_at_is_told_before_anything_starts(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        run = fleet("--upstream", url)
    assert run.returncode == 2
    assert run.stderr.startswith(f"Error: --upstream: no server answers at 127.0.0.1:{url[17:-3]}: ")
    assert not Path("run").exists()


def test_a_script_with_a_slip_is_told_before_anything_starts(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    (folder / "script.yaml").write_text("- txt: x\n")
    run = fleet("--script", "script.yaml")
    assert run.returncode == 1
    assert "script.yaml" in run.stderr
    assert "Traceback" not in run.stderr
    assert not Path("run").exists()


def test_a_directory_that_holds_results_is_left_alone_without_resume(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    assert fleet().returncode == 0
    before = Path("run/done.jsonl").read_bytes()
    assert "run holds the results of a run: continue that run with --resume" in refused()
    assert Path("run/done.jsonl").read_bytes() == before


def test_the_parents_of_a_store_are_created(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    run = fleet("--store", "runs/new/today")
    assert run.returncode == 0, run.stderr
    assert len(results("runs/new/today")) == 1


def test_a_task_that_has_changed_is_named_by_its_line_and_nothing_is_reported_as_done(folder: Path) -> None:
    write_tasks({"prompt": "a", "id": "x"}, {"prompt": "b", "id": "y"})
    assert fleet("--group-size", "2").returncode == 0
    write_tasks({"prompt": "a", "id": "x"}, {"prompt": "other", "id": "y"})
    run = fleet("--resume", "--group-size", "2")
    assert run.returncode == 1
    assert (
        "task 'y' (tasks.jsonl:2) differs from the task that is stored under this id: give it a new id\n"
        in (run.stderr)
    )
    assert "of 4 done" not in run.stderr


def test_an_agent_that_never_calls_the_model_needs_another_store(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    for more in ((), ("--resume",)):
        run = fleet(*more, command=("--", sys.executable, "-S", "-c", "pass", "{prompt}"))
        assert run.returncode == 1
        assert (
            "1 of 1 done, but no agent called the model\n▸ these tasks count as done; to run them again, correct"
            in (run.stderr)
        )


def test_a_relative_file_in_the_command_of_agents_that_failed_is_named(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    (folder / "agent.py").write_text("print('it runs')\n")
    command = ("--", sys.executable, "-S", "agent.py", "{prompt}")
    run = fleet(command=command)
    assert run.returncode == 1
    assert "but agent.py is a file of this directory: give its absolute path" in run.stderr
    assert "check the base URL" not in run.stderr
    (folder / "there").mkdir()
    (folder / "there" / "agent.py").write_text("raise SystemExit(3)\n")
    run = fleet("--store", "other", "--workspace", "there", command=command)
    assert "returned 3" in run.stderr
    assert "absolute path" not in run.stderr


def test_a_resume_with_another_content_of_the_script_is_refused(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    script = folder / "script.yaml"
    was = "- hello\n"
    script.write_text(was)
    assert fleet("--script", "script.yaml").returncode == 0
    script.write_text(f"{was}- more\n")
    run = fleet("--script", "script.yaml", "--resume")
    assert run.returncode == 2
    assert f"run: the content of {script} has changed since this run started" in " ".join(run.stderr.split())
    script.write_text(was)
    assert fleet("--script", "script.yaml", "--resume").returncode == 0


def test_who_resumes_with_another_model_is_refused(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    first = fleet()
    assert first.returncode == 0
    assert "because no --script, --handler or --upstream is given" in first.stderr
    run = fleet("--resume", "--script", "script.yaml")
    assert run.returncode == 1
    assert "greeting" not in run.stderr
    assert "this store belongs to another run: its setting script" in run.stderr


def test_quiet_says_nothing_but_errors(folder: Path) -> None:
    write_tasks({"prompt": "a"})
    run = fleet("--quiet")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", STARTER, "", "fleet", *arguments, *AGENT_COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(PATIENCE, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def wait_for(what: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def turns_recorded() -> int:
    try:
        return sum(len(trace) for path in trace_files(Path("run")) for trace in read_traces(path))
    except OSError:
        return 0


@pytest.mark.once
@pytest.mark.parametrize("engine", ["in-process:4", "processes:1"])
def test_ctrl_c_ends_all_says_how_to_go_on_and_nothing_is_lost(engine: str, folder: Path) -> None:
    waiting = [{"prompt": f"wait {n}", "id": f"w{n}"} for n in range(2)]
    write_tasks({"prompt": "a", "id": "a"}, *waiting)
    with started("--tasks", "tasks.jsonl", "--store", "run", "--engine", engine) as process:
        wait_for(lambda: turns_recorded() == 3 and Path("run/done.jsonl").stat().st_size)
        busy = fleet("--resume")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert busy.returncode == 1
    assert "another program uses the store" in busy.stderr
    assert "▸ store    run: 1 of 3 done" in said
    assert "▸ to run the other 2, use the same command with --resume" in said
    assert "Traceback" not in said
    write_tasks({"prompt": "a", "id": "a"}, {"prompt": "more", "id": "m"})
    resumed = fleet("--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "1 done, 1 done before" in resumed.stderr
    assert sorted(results()) == [("a", 0), ("m", 0)]
    check = subprocess.run(
        [sys.executable, "-m", "triocept", "check", "run"], capture_output=True, timeout=PATIENCE, check=False
    )
    assert check.returncode == 0, check.stdout


REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text()


@pytest.mark.parametrize("name", main.commands)
def test_the_reference_names_every_option(name: str) -> None:
    section = REFERENCE.partition(f"## triocept {name}\n")[2].partition("\n## ")[0]
    assert section
    options = {word for option in main.commands[name].params for word in option.opts if word.startswith("--")}
    assert {word for word in options if f"`{word}`" not in section and f"`{word} " not in section} == set()
    assert set(re.findall(r"^`(--[a-z-]+)", section, re.MULTILINE)) <= options
