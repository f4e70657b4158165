"""Servers that this project did not write, installed from the registries and started on loopback.

Not part of the test command: `nox -s upstreams` runs it. `TRIOCEPT_UPSTREAMS_DIR` says where they are kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

AIMOCK = "@copilotkit/aimock"
FIXTURES = [
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello from aimock, in a few words \u00e9."}},
    {
        "match": {"userMessage": "look", "hasToolResult": False},
        "response": {
            "toolCalls": [
                {"name": "ls", "arguments": '{"path":"a \u00e9"}'},
                {"name": "ls", "arguments": '{"path":"b"}'},
            ]
        },
    },
    {"match": {"userMessage": "look", "hasToolResult": True}, "response": {"content": "I have looked."}},
    {"match": {"userMessage": "think"}, "response": {"content": "Thought.", "reasoning": "Let me think."}},
    {
        "match": {"userMessage": "limited"},
        "response": {"error": {"message": "Slow down", "type": "rate_limit_error"}, "status": 429},
    },
    {
        "match": {"userMessage": "break off"},
        "response": {"content": "This answer is broken off before it ends, in the middle of a word."},
        "truncateAfterChunks": 4,
    },
    {
        "match": {"userMessage": "slowly"},
        "response": {"content": "One two three four five six seven eight."},
        "streamingProfile": {"ttft": 50, "tps": 100},
    },
]


@contextmanager
def aimock(folder: Path) -> Iterator[str]:
    """aimock with the fixtures above; its URL."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on this machine")
    executable = folder / "npm" / "node_modules" / ".bin" / "llmock"
    if not executable.exists():
        install = [npm, "install", "--prefix", folder / "npm", "--no-fund", "--no-audit", AIMOCK]
        subprocess.run(install, check=True, timeout=600)
    fixtures = folder / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    command = [str(executable), "-p", "0", "-f", str(fixtures), "--chunk-size", "8", "--validate-on-load"]
    with started(command, folder / "aimock.log", r"listening on (http://[\d.:]+)") as url:
        yield url


@contextmanager
def transformers_serve(folder: Path) -> Iterator[tuple[str, str]]:
    """`transformers serve` with a tiny model of random weights; its URL, and the model's name."""
    environment = folder / "transformers"
    executable = environment / "bin" / "transformers"
    if not executable.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=300)
        pip = [environment / "bin" / "pip", "install", "-q", "transformers[serving]", "torch"]
        subprocess.run(pip, check=True, timeout=3000)
    model = folder / "tiny-model"
    if not (model / "config.json").exists():
        maker = [environment / "bin" / "python", Path(__file__).with_name("tiny_model.py"), model]
        subprocess.run(maker, check=True, timeout=300)
    command = [
        *(str(executable), "serve", "--device", "cpu"),
        *("--host", "127.0.0.1", "--port", str(free_port())),
    ]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "TOKENIZERS_PARALLELISM": "false"}
    with started(
        command, folder / "transformers.log", r"Uvicorn running on (http://[\d.:]+)", **offline
    ) as url:
        wait_for(f"{url}/v1/models")
        yield url, str(model)


@contextmanager
def llama_cpp(folder: Path) -> Iterator[str]:
    """llama.cpp's own server with the scripted model; its URL."""
    python = folder / "llama" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "llama"], check=True, timeout=300)
    needed = ("xllamacpp", "numpy", "tokenizers", "gguf")
    install = [python, "-m", "pip", "install", "-q", *needed]
    if subprocess.run(
        [python, "-c", f"import {', '.join(needed)}"], capture_output=True, check=False
    ).returncode:
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            pytest.skip(
                f"llama.cpp was NOT tested, its server cannot be installed here: {done.stderr[-300:]}"
            )
    model = folder / "scripted.gguf"
    here = Path(__file__)
    subprocess.run([python, here.with_name("scripted_model.py"), model], check=True, timeout=300)
    command = [str(python), str(here.with_name("llama_server.py")), str(model)]
    with started(command, folder / "llama.log", r"listening on (http://[\d.:]+)") as url:
        yield url


@contextmanager
def started(command: list[str], log: Path, ready: str, **environ: str) -> Iterator[str]:
    """A server that says where it listens; ended with its whole group."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
            start_new_session=True,
        )
        try:
            yield wait_for_line(process, log, ready)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for_line(process: subprocess.Popen[bytes], log: Path, ready: str) -> str:
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(ready, log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"{log} does not say that it is ready:\n{log.read_text()}")


def wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
