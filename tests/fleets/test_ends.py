"""How a driver ends, and that nothing of its fleet outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.fleets.engines import engine_of_a_program

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


@pytest.mark.once
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
@engine_of_a_program
async def test_a_driver_that_ends_takes_its_workers_and_their_agents_along(
    engine: Callable[[], str], end: signal.Signals, tmp_path: Path
) -> None:
    program = DRIVER.replace("{engine}", engine())
    with trio.fail_after(90):
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
