"""How a driver ends, and that nothing of its fleet outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fleets.engines import engine_of_a_program
from triocept.fleets import Fleet, open_fleet

DRIVER = """
import sys, trio
from tests.fleets.test_ends import agent_that_stays
from triocept.fleets import Processes, RayEngine, open_fleet

async def main():
    async with open_fleet({engine}) as fleet:
        async with fleet.map(agent_that_stays, [(sys.argv[1], number) for number in range(4)]) as results:
            async for result in results:
                print(result, result.outcome)

trio.run(main)
"""
AGENT = """
import os, sys, time, signal
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(100)
"""


async def agent_that_stays(worker, task, *, attempt):  # type: ignore[no-untyped-def]
    """An agent process that says that it lives; every other one ignores SIGTERM."""
    folder, number = task
    note = Path(folder) / f"agent{number}"
    (Path(folder) / f"worker{number}").write_text(str(os.getpid()))
    async with worker.open_rollout() as rollout:
        await rollout.run_agent(
            [sys.executable, "-S", "-c", AGENT, str(note), "stubborn" if number % 2 else "obeying"]
        )


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(90)
@pytest.mark.once
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
@engine_of_a_program
async def test_a_driver_that_ends_takes_its_workers_and_their_agents_along(
    engine: Callable[[], str], end: signal.Signals, tmp_path: Path
) -> None:
    program = DRIVER.replace("{engine}", engine())
    driver = await trio.lowlevel.open_process(
        [sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE, start_new_session=True
    )
    assert driver.stderr is not None
    pids: list[int] = []
    while len(pids) < 8:
        await trio.sleep(0.05)
        assert driver.returncode is None
        pids = [int(path.read_text()) for path in tmp_path.iterdir() if path.stat().st_size]
    driver.send_signal(end)
    said = b"".join([part async for part in driver.stderr]) if end is signal.SIGINT else b""
    await driver.wait()
    while any(map(lives, pids)):
        await trio.sleep(0.05)
    await driver.stderr.aclose()
    if end is signal.SIGINT:
        assert said.decode().rstrip().endswith("KeyboardInterrupt")
        assert "Cancelled" not in said.decode()


@trio.lowlevel.enable_ki_protection
def _interrupt() -> None:
    """A Ctrl-C that comes while nothing of ours runs: trio tells the main task of it."""
    signal.raise_signal(signal.SIGINT)


@asynccontextmanager
async def _interrupting() -> AsyncIterator[None]:
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            _interrupt()
            await wait_all_tasks_blocked()


def test_ctrl_c_while_a_fleet_ends_is_bare_and_leaves_nobody_waiting() -> None:
    ends: list[str] = []

    async def watch(fleet: Fleet, *, task_status: trio.TaskStatus[None]) -> None:
        with fleet.events() as events:
            task_status.started()
            ends.extend([type(event).__name__ async for event in events])

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                with pytest.raises(KeyboardInterrupt):
                    async with open_fleet(worker=_interrupting, progress=True) as fleet:
                        await nursery.start(watch, fleet)

    trio.run(main)
    assert ends == ["WorkerLeft"]
