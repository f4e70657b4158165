"""The commands, as a person types them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_helpers import AGENT, PATIENCE, STARTER

from tests.cli.cli_forks import triocept as forked
from triocept import read_traces


def triocept(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return forked(*arguments, timeout=60, cwd=cwd, env=env)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`triocept serve`, and the variables that it prints; ended with Ctrl-C."""
    command = [sys.executable, "-c", STARTER, "", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            variables: dict[str, str] = {}
            for line in process.stdout:
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    variables[name] = value
                if line.startswith("export DISABLE_AUTOUPDATER"):
                    break
            yield process, variables
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def test_serve_stays_until_ctrl_c_and_prints_what_an_agent_needs(tmp_path: Path) -> None:
    script, record = tmp_path / "s.json", tmp_path / "t.jsonl"
    script.write_text(json.dumps(["one", "two"]))
    with serving("--script", script, "--record", record, "--quiet") as (process, variables):
        assert variables["ANTHROPIC_BASE_URL"] == variables["OPENAI_BASE_URL"].removesuffix("/v1")
        command = [sys.executable, "-c", AGENT, "0", "a", "b"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **variables}
        )
    assert done.stdout == "said: one\nsaid: two\n", done.stderr
    assert process.returncode == -signal.SIGINT
    (trace,) = read_traces(record)
    assert trace.sealed
    assert len(trace) == 2


def test_run_forwards_to_a_real_model_and_the_agent_does_not_see_its_key(tmp_path: Path) -> None:
    script, record = tmp_path / "s.json", tmp_path / "t.jsonl"
    script.write_text(json.dumps(["from afar", "twice"]))
    agent = AGENT.replace("sys.exit(", "print(os.environ.get('MY_SECRET'), flush=True); sys.exit(")
    with serving("--script", script, "--quiet") as (_, far):
        done = triocept(
            *("run", "--record", record, "--upstream", far["ANTHROPIC_BASE_URL"]),
            *("--upstream-dialect", "anthropic_messages", "--model", "far", "--api-key-env", "MY_SECRET"),
            *("--", sys.executable, "-c", agent, "3", "a", "b"),
            env={"MY_SECRET": far["OPENAI_API_KEY"]},
        )
    assert done.stdout == "said: from afar\nsaid: twice\nNone\n", done.stderr
    assert done.returncode == 3
    assert far["OPENAI_API_KEY"] not in done.stderr + record.read_text()
    (trace,) = read_traces(record)
    assert [turn.notes["upstream"]["model"] for turn in trace] == ["far", "far"]


def test_what_a_real_model_is_asked_for_is_said_on_the_command_line(tmp_path: Path) -> None:
    """And a call that it refuses for the moment is tried again."""
    script, record = tmp_path / "s.json", tmp_path / "t.jsonl"
    script.write_text(json.dumps([{"refuse": 503, "message": "later"}, "now"]))
    with serving("--script", script, "--record", record, "--quiet") as (_, far):
        done = triocept(
            *("run", "--upstream", far["OPENAI_BASE_URL"], "--retries", "2", "--max-output-tokens", "77"),
            *("--sampling", "temperature=0.5", "--sampling", "seed=3", "--sampling", "stop=a=b"),
            *("--sampling", "stop=,", "--", sys.executable, "-c", AGENT, "0", "a"),
            env={"OPENAI_API_KEY": far["OPENAI_API_KEY"]},
        )
    assert done.stdout == "said: now\n", done.stderr
    (trace,) = read_traces(record)
    sampling = trace[-1].request.sampling
    assert (sampling.temperature, sampling.seed, sampling.stop) == (0.5, 3, ("a=b", ","))
    assert sampling.max_output_tokens == 77


@pytest.mark.once
def test_what_a_real_model_cannot_be_asked_for_is_said() -> None:
    def told(*options: str) -> str:
        done = triocept("run", "--upstream", "http://localhost/v1", *options, "--", "true")
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "unknown setting 'heat'; the settings are temperature, top_p" in told("--sampling", "heat=1")
    assert "'hot' is not a valid value of temperature" in told("--sampling", "temperature=hot")
    assert "--tokens needs --model NAME" in told("--tokens", "vllm")
    assert "--max-output-tokens" in told("--max-output-tokens", "0")
    wrong = told("--tokens", "llama-cpp", "--model", "m", "--upstream-dialect", "gemini")
    assert "gemini" in wrong


@pytest.mark.once
def test_options_that_do_not_go_together_are_clear_errors(tmp_path: Path) -> None:
    script = tmp_path / "s.json"
    script.write_text('["one"]')
    done = triocept("run", "--script", script, "--upstream", "http://localhost/v1", "--", "true")
    assert (done.returncode, "exclude each other" in done.stderr) == (2, True)
    done = triocept("run", "--model", "m", "--", "true")
    assert (
        done.returncode,
        "--upstream URL is missing: only forwarded calls use --model" in done.stderr,
    ) == (2, True)
    done = triocept("serve", "--upstream", "http://localhost/v1", "--api-key-env", "NOT_SET_ANYWHERE")
    assert (done.returncode, "NOT_SET_ANYWHERE" in done.stderr) == (2, True)
    done = triocept("run", "--upstream", "localhost:8000", "--", "true")
    assert (done.returncode, "http or https" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


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
    assert "ended with exit status 7" in done.stderr
    (trace,) = read_traces(record)
    assert trace.sealed
    assert [turn.response.text for turn in trace if turn.response] == ["one", "two"]


@pytest.mark.parametrize("command", ["run", "serve"])
def test_known_keys_are_in_no_record_where_that_is_asked_for(tmp_path: Path, command: str) -> None:
    script, record = tmp_path / "s.json", tmp_path / "t.jsonl"
    key = "AKIAIOSFODNN7EXAMPLE"
    script.write_text(json.dumps([f"it is {key}"]))
    options = ("--script", script, "--record", record, "--redact-known-keys", "--quiet")
    agent = (sys.executable, "-c", AGENT, "0", f"read {key}")
    if command == "run":
        said = triocept("run", *options, "--", *agent).stdout
    else:
        with serving(*options) as (_, variables):
            environment = {**os.environ, **variables}
            said = subprocess.run(
                agent, env=environment, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True
            ).stdout
    assert said == f"said: it is {key}\n", "the agent has it"
    (trace,) = read_traces(record)
    assert trace[0].response.text == "it is [redacted]"
    assert key not in record.read_text()


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


def test_a_fault_on_the_wire_is_not_said_to_be_a_refusal_with_200(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(
        "from triocept.handlers import Fault\nreplies = [Fault.reset(after=1, answer='one two')]"
    )
    agent = AGENT.replace('"model": "m",', '"model": "m", "stream": True,')
    done = triocept("run", "--script", script, "--", sys.executable, "-c", agent, "0", "a")
    assert re.search(
        r"└ raw bytes: [\d,]+ bytes of a body, then the connection was reset \(HTTP status 200\)", done.stderr
    ), done.stderr


def test_a_known_agent_gets_its_task_and_the_options_behind_a_second_pair_of_dashes(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    known = "run", "--agent", "claude-code", "--executable", program
    done = triocept(*known, "--", "fix", "the - bug", "- and -1", "--", "--model", "opus")
    assert done.stdout == "-p|fix the - bug - and -1|--dangerously-skip-permissions|--model|opus|", (
        done.stderr
    )
    assert "config   temporary, not your own" in done.stderr


def test_an_agent_gets_settings_and_no_keys_but_those_that_it_is_given() -> None:
    variables = "AWS_SECRET_ACCESS_KEY", "MISTRAL_API_KEY", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "GIVEN"
    done = triocept(
        *("run", "--env", "GIVEN=a=b", "--env", "MISTRAL_API_KEY", "--"),
        *(sys.executable, "-c", f"import os; print([os.environ.get(name) for name in {variables}])"),
        env={
            "AWS_SECRET_ACCESS_KEY": "sk-aws",
            "MISTRAL_API_KEY": "sk-m",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "9",
            "AWS_PROFILE": "work",
            "GOOGLE_APPLICATION_CREDENTIALS": "/k.json",
        },
    )
    assert done.stdout == "[None, 'sk-m', '9', 'a=b']\n", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "to pass one of them, use --env NAME" in line]
    assert "AWS_SECRET_ACCESS_KEY" in line
    assert "MISTRAL_API_KEY" not in line
    (kept,) = [line for line in done.stderr.splitlines() if "to hide one of them, use --env NAME=" in line]
    assert "AWS_PROFILE" in kept
    assert "GOOGLE_APPLICATION_CREDENTIALS" in kept
    assert not {"MISTRAL_API_KEY", "OPENAI_API_KEY", "CLAUDE_CODE_MAX_OUTPUT_TOKENS"} & set(
        re.findall(r"\w+", kept)
    )
    assert "sk-" not in done.stderr


def test_a_script_that_runs_out_says_so_and_shows_the_request(tmp_path: Path) -> None:
    script = tmp_path / "s.json"
    script.write_text('["one"]')
    done = triocept("run", "--script", script, "--", sys.executable, "-c", AGENT, "0", "a", "what now")
    assert done.returncode == 1
    assert "call 2 came, but the script has 1 reply" in done.stderr
    assert "user: what now" in done.stderr
    assert "Traceback" not in done.stderr.replace("urllib", "").split("Error:")[-1]


def test_a_wrong_command_and_a_wrong_script_are_clear_errors(tmp_path: Path) -> None:
    done = triocept("run", "--", "no-such-agent-anywhere", "-p")
    assert done.returncode == 2
    assert "no-such-agent-anywhere" in done.stderr
    assert "Traceback" not in done.stderr
    script = tmp_path / "s.json"
    script.write_text("{")
    done = triocept("run", "--script", script, "--", "true")
    assert "this is not JSON" in done.stderr
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
