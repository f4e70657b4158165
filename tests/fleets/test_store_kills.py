"""A driver that is killed and begun again, as often as one likes: nothing is there twice, and nothing is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.fleets.engines import engine_of_a_program
from tests.fleets.test_ends import lives
from triocept import read_traces
from triocept.fleets import check_store, read_results

DRIVER = """
import sys, trio
from tests.fleets.test_store_kills import solve
from triocept.fleets import Processes, RayEngine, open_fleet, open_store

async def main():
    tasks = [{"id": f"t{number}", "note": sys.argv[2]} for number in range(int(sys.argv[3]))]
    async with open_store(sys.argv[1]) as store, open_fleet(ENGINE) as fleet:
        async with fleet.map(solve, tasks, store=store) as results:
            async for result in results:
                print(result.key, flush=True)

trio.run(main)
"""
AGENT = """
import json, os, sys, urllib.request
with open(sys.argv[2], "a") as file:
    file.write(f"{os.getpid()} {sys.argv[1]}\\n")
for number in range(2):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps({"model": "m", "messages": [{"role": "user", "content": f"{sys.argv[1]} {number}"}]}).encode(),
        {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""
TASKS = 60
KILLS = 5


async def answer(exchange):  # type: ignore[no-untyped-def]
    await trio.sleep(0.05)
    await exchange.respond(f"heard {exchange.request.last.text}")


async def solve(worker, task, *, attempt):  # type: ignore[no-untyped-def]
    """A real agent, of two calls."""
    async with worker.open_rollout(answer) as rollout:
        result = await rollout.run_agent([sys.executable, "-S", "-c", AGENT, task["id"], task["note"]])
    result.check()
    return result.stdout_text.splitlines()


async def _run_driver(program: str, store: Path, note: Path, kill_after: int | None) -> list[str]:
    """What it said that it has got; it is killed when it has said so much."""
    driver = await trio.lowlevel.open_process(
        [sys.executable, "-c", program, str(store), str(note), str(TASKS)], stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    said = b""
    async with driver.stdout:
        async for part in driver.stdout:
            said += part
            if kill_after is not None and said.count(b"\n") >= kill_after:
                driver.send_signal(signal.SIGKILL)
                kill_after = None
    status = await driver.wait()
    assert status in (0, -signal.SIGKILL)
    return said.decode().rpartition("\n")[0].splitlines()


@pytest.mark.timeout(600)  # six drivers, each of which starts workers and their agents
@pytest.mark.once
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@engine_of_a_program
async def test_a_driver_that_is_killed_five_times_has_each_result_once(
    engine: Callable[[], str], tmp_path: Path
) -> None:
    program = DRIVER.replace("ENGINE", engine())
    store, note = tmp_path / "s", tmp_path / "agents"
    said: list[str] = []
    for _ in range(KILLS):
        said += await _run_driver(program, store, note, kill_after=7)
        assert check_store(store).complete
    said += await _run_driver(program, store, note, None)
    agents = [line.split() for line in note.read_text().splitlines()]
    while any(lives(int(pid)) for pid, _ in agents):
        await trio.sleep(0.05)
    results = list(read_results(store))
    keys = [f"t{number}" for number in range(TASKS)]
    assert sorted(result.key or "" for result in results) == sorted(keys), "once each, and none is missing"
    assert len(said) == len(set(said)), "nor was one given twice"
    assert set(said) <= set(keys)
    for result in results:
        assert result.value == [f"heard {result.key} {number}" for number in range(2)]
        (trace,) = result.traces
        assert trace.sealed
        assert [turn.outcome for turn in trace] == ["answered", "answered"]
        assert trace.ended == "body"
    report = check_store(store)
    assert report.complete
    everything = [trace for file in (store / "traces").iterdir() for trace in read_traces(file)]
    assert len({trace.run for trace in everything}) == len(everything) == TASKS + report.attempts
    assert len(agents) >= TASKS
    assert len((store / "done.jsonl").read_text().splitlines()) == TASKS
