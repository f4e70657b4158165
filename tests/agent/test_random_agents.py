"""Agents start processes at random moments, and end, are cancelled or lose their program: nothing of them is left."""

import json
import os
import random
import signal
import time
from typing import Any

import pytest
import trio
from agent_helpers import comes_true, open_agent, open_program, running, unique_seconds

from tests.seeds import first_seed

pytestmark = pytest.mark.once

SECONDS = float(os.environ.get("TRIOCEPT_WALK_SECONDS", "3")) / 6
"""After which no further batch begins."""
AT_ONCE = 6
KILLED = """
import json, os, signal, subprocess, sys, time, trio
from tests.seeds import first_seed
from triocept._process.process import open_process
from triocept._process.watcher import open_watcher

script, after, late, before_exec = json.loads(sys.argv[1])

def be_late():
    os.kill(os.getppid(), signal.SIGKILL)
    os.closerange(3, 256)
    time.sleep(late)

async def main():
    async with open_watcher() as watcher:
        if before_exec:  # as a busy machine does it: the program dies between an agent's fork and its exec
            await watcher.register("0123456789abcdef")
            env = os.environ | {"TRIOCEPT_AGENT": "0123456789abcdef"}
            subprocess.Popen(["sh", "-c", script], env=env, start_new_session=True, preexec_fn=be_late)
        async with open_process(["sh", "-c", script], env=os.environ, watcher=watcher):
            await trio.sleep(after)
            os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


def script_of(chance: random.Random, tag: str) -> str:
    """Make a shell script that starts processes, some of them late, some of them as daemons."""
    if chance.random() < 0.4:  # all that is there ends when the other begins
        return f"(sleep {chance.uniform(0.01, 0.08)}; sleep {tag} & exit 0) & exit 0"
    lines = ["trap '' TERM"] * (chance.random() < 0.3)
    for _ in range(chance.randint(0, 3)):
        late = chance.uniform(0, 0.1)
        starts = (
            f"sleep {tag} &",
            f"setsid sleep {tag} &",
            f"(sleep {late}; sleep {tag} & exit 0) &",
            f"(sleep {late}; setsid sleep {tag} & exit 0) &",
        )
        lines.append(chance.choice(starts))
    lines.append(chance.choice(["exit 0", f"sleep {chance.uniform(0, 0.1)}", f"sleep {tag}"]))
    return "\n".join(lines)


async def lives_and_ends(chance: random.Random, tag: str) -> None:
    """Run an agent to its end, or cancel it."""
    script = script_of(chance, tag)
    with trio.move_on_after(chance.choice([chance.uniform(0, 0.15), 2])):
        async with open_agent("sh", "-c", script) as agent:
            await agent.wait()
    assert not running(tag), script


async def loses_its_program(chance: random.Random, tag: str) -> None:
    """Kill the program of an agent."""
    plan = script_of(chance, tag), chance.uniform(0, 0.1), chance.uniform(0, 2), chance.random() < 0.5
    async with open_program(KILLED, json.dumps(plan)) as program:
        assert await program.process.wait() == -signal.SIGKILL
        assert await comes_true(lambda: not running(tag), within=30), plan


async def play(scene: Any, seed: int) -> None:
    tag = unique_seconds()
    try:
        await scene(random.Random(seed), tag)
    finally:
        for pid in running(tag):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("scene", [lives_and_ends, loses_its_program])
async def test_nothing_of_an_agent_is_left_whenever_it_starts_what(scene: Any) -> None:
    seed = first_seed()
    print(f"seeds from {seed} on")  # pytest shows it where it fails
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(play, scene, seed)
                seed += 1
