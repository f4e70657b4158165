"""The processes of a run: servers on one core, the load on another, so that neither takes the other's time."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .load import Job, Yield

_START = 300.0
"""Seconds that a server has to start: some peers import a great deal."""
_REPLY = 120.0
"""Seconds that it has for a command, a load for its job."""


class ServerUnavailable(Exception):
    """A server does not start: most likely its packages are not installed."""


class LoadFailed(Exception):
    """The load could not do its job; the text is the last of what it said."""


def raise_file_limit() -> None:
    """As many open files as may be: 10,000 waiting requests are 10,000 sockets at either end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ServerProcess:
    """A server in a process of its own. Made by `open_servers` only."""

    def __init__(self, name: str, process: subprocess.Popen[str], dumps: Path | None = None) -> None:
        self.name = name
        self._process = process
        self._dumps = dumps
        """Where callgrind writes; None: instructions are not counted."""
        self._dumped = 0
        self._instructions = 0
        hello = self._read(_START if dumps is None else 5 * _START)
        self.port: int = hello["port"]
        self._pid: int = hello["pid"]
        self.abilities: frozenset[str] = frozenset(hello["abilities"])

    def tell(self, command: str) -> dict[str, Any]:
        """Give a command, wait for what it yields."""
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self._read(_REPLY)

    def routes(self, rollouts: int) -> list[list[str]]:
        """New rollouts; the old ones end."""
        found: list[list[str]] = self.tell(f"renew {rollouts}")["routes"]
        return found

    def memory(self) -> int:
        """Bytes of memory that are its own, from Linux's /proc."""
        pages = Path(f"/proc/{self._pid}/statm").read_text(encoding="ascii").split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Seconds that its threads have run, from Linux's /proc: what noise on the machine changes least."""
        threads = Path(f"/proc/{self._pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9

    def count(self) -> None:
        """Begin to count instructions, if it was started for that."""
        if self._dumps is not None:
            self._control("-i", "on")
            self._control("-z")

    def cost(self) -> float:
        """What it has done so far: microseconds of CPU, or thousands of instructions if they are counted."""
        if self._dumps is None:
            return 1e6 * self.cpu()
        self._control("-d")
        self._dumped += 1
        text = self._dumps.with_name(f"{self._dumps.name}.{self._dumped}").read_text(encoding="utf-8")
        self._instructions += int(text.rpartition("totals: ")[2].split()[0])
        return self._instructions / 1000

    def _control(self, *words: str) -> None:
        command = ["callgrind_control", *words, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True, timeout=_REPLY)

    def _read(self, patience: float) -> dict[str, Any]:
        line = _read_line(self._process, patience)
        if line is None:
            raise ServerUnavailable(f"{self.name} ended, or said nothing for {patience} seconds")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def open_server_process(
    name: str,
    *,
    log: Path,
    core: int = -1,
    python: Path | str = sys.executable,
    variables: Mapping[str, str] | None = None,
    dumps: Path | None = None,
) -> Iterator[ServerProcess]:
    """Start a server on the first core (0) or the last (-1); it ends when the body does.

    Args:
        name: of its module.
        log: where its errors go.
        core: its core.
        python: the interpreter of its environment.
        variables: environment variables beside ours.
        dumps: file to which callgrind writes; None: instructions are not counted.
    """
    command = [str(python), "-m", f"bench.servers.{name}"]
    if dumps is not None:
        tool = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={dumps}"]
        command = ["valgrind", "-q", *tool, *command]
        variables = {"PYTHONHASHSEED": "0", **(variables or {})}
    with log.open("a") as stderr, _open_program(command, core_at(core), stderr, variables) as process:
        yield ServerProcess(name, process, dumps)


@contextmanager
def open_servers(names: list[str], *, log: Path) -> Iterator[tuple[list[ServerProcess], list[str]]]:
    """Start these servers; gives those that run, and the names of those that do not."""
    running: list[ServerProcess] = []
    missing: list[str] = []
    with ExitStack() as stack:
        for name in names:
            try:
                running.append(stack.enter_context(open_server_process(name, log=log)))
            except ServerUnavailable:
                missing.append(name)
        yield running, missing


class LoadProcess:
    """A load at work."""

    def __init__(self, process: subprocess.Popen[str], patience: float) -> None:
        self._process = process
        self._patience = patience

    def wait_sent(self) -> None:
        """Until every connection of a job that is done once has sent its request."""
        self._read()

    def result(self) -> Yield:
        """Wait for the end of the job."""
        return Yield(**self._read())

    def _read(self) -> dict[str, Any]:
        line = _read_line(self._process, self._patience)
        if line is None:
            assert self._process.stderr is not None
            raise LoadFailed(
                self._process.stderr.read()[-2000:] if self._process.poll() else "it says nothing"
            )
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def open_load(job: Job, *, core: int = 0) -> Iterator[LoadProcess]:
    """Start a load on the first core or the last; it ends with its job, or when the body does."""
    with _open_program([sys.executable, "-m", "bench.load"], core_at(core), subprocess.PIPE) as process:
        assert process.stdin is not None
        print(json.dumps(asdict(job)), file=process.stdin, flush=True)
        yield LoadProcess(process, job.warmup + job.seconds + _REPLY)


@contextmanager
def _open_program(
    command: list[str], core: int | None, stderr: Any, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        bufsize=1,
        preexec_fn=partial(pin, core),
        cwd=Path(__file__).parent.parent,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            try:
                process.stdin.close()
                process.wait(60)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                process.kill()


def _read_line(process: subprocess.Popen[str], patience: float) -> str | None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience)
    return (process.stdout.readline() or None) if ready else None


def core_at(place: int) -> int | None:
    """The first or the last core that this process may use; None where there is one only, or no telling."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[place] if len(cores) > 1 else None


def pin(core: int | None) -> None:
    """Run this process on that core only; None: on any."""
    if core is not None:
        os.sched_setaffinity(0, {core})
