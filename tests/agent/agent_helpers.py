"""Real processes, found by a number in their command line that nobody else has; no test trusts our own scan."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from triocept._process.process import AgentProcess, open_process
from triocept._process.watcher import Watcher, open_watcher

no_mark = pytest.mark.skipif(
    sys.platform != "linux" or resource.getrlimit(10)[1] != resource.RLIM_INFINITY,
    reason="the agent of an agent bears that one's mark alone",
)
ENV = {"PATH": os.environ["PATH"]}


def unique_seconds() -> str:
    """An argument for `sleep`, long enough, and the only one of its kind."""
    return f"{random.randint(1000, 9999)}.{random.randint(10**8, 10**9)}"


def running(tag: str) -> list[int]:
    """The living processes with this in their command line. A zombie's is empty."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if tag.encode() in file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found


STAYS = 0.3
"""Seconds for which something must be so to be believed."""


async def until(condition: Callable[[], Any]) -> None:
    """Other processes tell us nothing: so look, often."""
    while not condition():
        await trio.sleep(0.005)


async def comes_true(condition: Callable[[], Any], *, within: float) -> bool:
    """Whether this is so before that many seconds are over, and stays so: a process in its exec shows no command."""
    start = since = trio.current_time()
    while (now := trio.current_time()) - since < STAYS:
        await trio.sleep(0.005)
        if not condition():
            since = trio.current_time()
            if now - start > within:
                return False
    return True


async def until_sleeping(tag: str, count: int) -> None:
    """That many `sleep` processes have got as far as to be that."""

    def sleeping() -> int:
        count = 0
        for pid in running(tag):
            try:
                with open(f"/proc/{pid}/comm") as file:
                    count += file.read() == "sleep\n"
            except OSError:
                continue
        return count

    await until(lambda: sleeping() >= count)


@asynccontextmanager
async def open_agent(
    *argv: str, watcher: Watcher | None = None, **options: Any
) -> AsyncIterator[AgentProcess]:
    """An agent, with a watcher of its own if none is given."""
    env: Mapping[str, str] = options.pop("env", ENV)
    if watcher is not None:
        async with open_process(argv, env=env, watcher=watcher, **options) as agent:
            yield agent
    else:
        async with open_watcher() as own, open_process(argv, env=env, watcher=own, **options) as agent:
            yield agent


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when this task is about to take its n-th step from now."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._task = trio.lowlevel.current_task()
        self._left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@asynccontextmanager
async def open_program(source: str, *arguments: str) -> AsyncIterator[Program]:
    """Another Python that runs `source`; it is killed at the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", source, *arguments], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        yield Program(process)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


class Program:
    """A program that a test started."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""

    async def line(self) -> str:
        """The next line that it, or its agent, printed."""
        while b"\n" not in self._rest:
            data = await self.process.stdout.receive_some()
            assert data, f"the program ended, having printed {self._rest!r}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)


def serving(tunnel: str) -> str:
    """A program that serves an endpoint with this tunnel, for `open_program` and `end_program`."""
    return f"""
import json, sys, trio
from triocept import serve_endpoint, tunnels

async def main():
    async with serve_endpoint(tunnel={tunnel}):
        print("up", flush=True)
        await trio.sleep_forever()

try:
    trio.run(main)
except KeyboardInterrupt:
    print("bare", flush=True)
"""


async def end_program(program: Program, how: str, left: Callable[[], object]) -> None:
    """Interrupt it (`ctrl-c`) or kill it: nothing of what it had started is `left`, at once or soon."""
    if how == "ctrl-c":
        program.process.send_signal(signal.SIGINT)
        assert await program.line() == "bare"
        assert await program.process.wait() == 0
        assert not left()
    else:
        program.kill()
        with trio.fail_after(30):
            await until(lambda: not left())
