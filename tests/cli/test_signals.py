"""`triocept run` and `triocept serve`, ended by signals while an agent is at work.

The program under test gets the signals' usual effects first: whoever runs this suite may have had some of them ignored
(a script ignores SIGINT for what it starts in the background).
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from cli_helpers import PATIENCE, PATIENT_STARTER, STARTER

from triocept import read_traces

AGENT = """
import json, os, signal, subprocess, sys, urllib.request
def ask(text):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]
def end(*_):
    print("last:", ask("last words"), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
ask("begin")
subprocess.Popen(["setsid", "sleep", sys.argv[1]])
print("at work", os.environ["OPENAI_BASE_URL"], flush=True)
while True:
    os.read(reader, 1)  # unlike `signal.pause`, which sleeps on if the signal came right before it
"""

STUBBORN = AGENT.replace('print("last:", ask("last words"), flush=True)', 'print("no", flush=True); return')


@contextmanager
def started(
    *arguments: str | Path,
    ignored: str = "",
    tmp: Path | None = None,
    starter: str = STARTER,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", starter, ignored, *map(str, arguments)]
    env = {**os.environ, **({"TMPDIR": str(tmp)} if tmp is not None else {})}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options
    ) as process:
        limit = threading.Timer(PATIENCE, process.kill)  # whoever reads its output reads the end, then
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def running(tag: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if tag.encode() in Path("/proc", name, "cmdline").read_bytes():
                    found.append(name)
            except OSError:
                continue
    return found


def endpoint_at(url: str) -> str | None:
    """The id of the endpoint that listens there: the port may be another program's by now."""
    parts = urlsplit(url)
    try:
        with urlopen(f"http://{parts.netloc}/health", timeout=PATIENCE) as answer:
            return str(json.load(answer)["endpoint"])
    except (OSError, ValueError, KeyError, TypeError, HTTPException):
        return None


def line(process: subprocess.Popen[str], start: str) -> str:
    """The next line of its output that begins so, without that."""
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith(start):
            return text.removeprefix(start).strip()
    raise AssertionError(f"it ended without {start!r}: {process.stderr.read()}")


def seconds() -> str:
    """An argument for `sleep` that nobody else has."""
    return f"{random.randint(1000, 9999)}.{random.randint(10**8, 10**9)}"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_run_ends_its_agent_first_and_then_in_order(name: str, tmp_path: Path) -> None:
    """The agent's last call is answered, the trace sealed; no process, folder or socket is left."""
    signum, tag, record, tmp = signal.Signals[name], seconds(), tmp_path / "t.jsonl", tmp_path / "tmp"
    tmp.mkdir()
    command = ("run", "--record", record, "--", sys.executable, "-c", AGENT, tag)
    with started(*command, tmp=tmp, starter=PATIENT_STARTER) as process:
        url = line(process, "at work")
        endpoint = endpoint_at(url)
        assert endpoint is not None
        assert list(tmp.iterdir())
        process.send_signal(signum)
        out, err = process.communicate(timeout=PATIENCE)
    assert "last: Hello from triocept" in out, err
    assert process.returncode == -signum
    assert "Traceback" not in err
    (trace,) = read_traces(record)
    assert trace.sealed
    assert [turn.outcome for turn in trace] == ["answered", "answered"]
    assert running(tag) == []
    assert list(tmp.iterdir()) == []
    assert endpoint_at(url) != endpoint


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_serve_ends_in_order(name: str, tmp_path: Path) -> None:
    signum, record = signal.Signals[name], tmp_path / "t.jsonl"
    with started("serve", "--record", record) as process:
        url = line(process, "export OPENAI_BASE_URL=")
        key = line(process, "export OPENAI_API_KEY=")
        line(process, "export DISABLE_AUTOUPDATER")
        env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        with subprocess.Popen(
            [sys.executable, "-c", AGENT, "0"], env=env, stdout=subprocess.PIPE, text=True
        ) as agent:
            line(agent, "at work")
            endpoint = endpoint_at(url)
            assert endpoint is not None
            process.send_signal(signum)
            _, err = process.communicate(timeout=PATIENCE)
            agent.kill()
    assert process.returncode == -signum, err
    assert "Traceback" not in err
    (trace,) = read_traces(record)
    assert trace.sealed
    assert len(trace) == 1
    assert endpoint_at(url) != endpoint


def test_a_shell_sees_128_and_the_signals_number(tmp_path: Path) -> None:
    shell = ["sh", "-c", '"$@" & wait $!; echo status $?', "sh"]
    command = [
        *shell,
        sys.executable,
        "-c",
        STARTER,
        "",
        "run",
        "--",
        "sh",
        "-c",
        "kill -TERM $PPID; sleep 60",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "status 143\n", done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_a_stubborn_agent_at_once(name: str, tmp_path: Path) -> None:
    signum, tag, record, tmp = signal.Signals[name], seconds(), tmp_path / "t.jsonl", tmp_path / "tmp"
    tmp.mkdir()
    command = ("run", "--record", record, "--", sys.executable, "-c", STUBBORN, tag)
    with started(*command, tmp=tmp, starter=PATIENT_STARTER) as process:
        line(process, "at work")
        process.send_signal(signum)
        line(process, "no")  # from here on it has a minute
        start = time.monotonic()
        process.send_signal(signum)
        process.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < 30
    assert process.returncode == -signum
    assert running(tag) == []
    assert list(tmp.iterdir()) == []
    (trace,) = read_traces(record)
    assert trace.sealed


@pytest.mark.parametrize("command", ["run", "serve"])
def test_what_was_ignored_at_the_start_stays_ignored_and_sigterm_is_obeyed(
    command: str, tmp_path: Path
) -> None:
    """`sh -c 'triocept … &'` ignores SIGINT, `nohup` SIGHUP: those were not meant for it."""
    record, tag = tmp_path / "t.jsonl", seconds()
    rest = ("--", sys.executable, "-c", AGENT, tag) if command == "run" else ()
    with started(command, "--record", record, *rest, ignored="SIGINT SIGHUP") as process:
        line(process, "at work" if command == "run" else "export OPENAI_BASE_URL=")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert running(tag) == []
    if command == "run":
        (trace,) = read_traces(record)
        assert trace.sealed


def test_a_known_agents_folder_goes_with_it(tmp_path: Path) -> None:
    agent, tag = tmp_path / "claude", seconds()
    agent.write_text(f"#!/bin/sh\necho at work $CLAUDE_CONFIG_DIR\nsleep {tag}\n")
    agent.chmod(0o755)
    with started("run", "--agent", "claude-code", "--executable", agent, "--", "hello") as process:
        folder = Path(line(process, "at work")).parent
        assert folder.exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert not folder.exists()
    assert running(tag) == []


def test_demo_leaves_no_folder_either(tmp_path: Path) -> None:
    with started("demo", tmp=tmp_path) as process:
        line(process, "agent: running")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_third_signal_ends_a_program_whose_script_blocks(name: str, tmp_path: Path) -> None:
    signum = signal.Signals[name]
    script = tmp_path / "replies.py"
    script.write_text(
        "import os, signal, time\n"
        "def wait(request):\n"
        f"    receive = signal.getsignal({int(signum)})\n"
        "    def tell(*arguments):\n"
        "        receive(*arguments)\n"
        "        os.write(1, b'received\\n')\n"
        f"    signal.signal({int(signum)}, tell)\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(600)\n"
        "replies = ['one', wait]\n"
    )
    command = ("run", "--script", script, "--", sys.executable, "-c", AGENT, seconds())
    with started(*command, starter=PATIENT_STARTER) as process:
        line(process, "at work")  # the agent's: it has its first answer, and now its end asks for the next
        process.send_signal(signum)
        line(process, "at work")  # the script's, from which nothing comes back
        process.send_signal(signum)
        line(process, "received")  # two signals at once would be one
        process.send_signal(signum)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signum
