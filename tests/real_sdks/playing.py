"""Programs, run against one endpoint, each in a rollout of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import trio

from tests.real_sdks.model import Model, asked
from triocept import Endpoint, Trace, Turn, serve_endpoint

PARAMETERS = ("program", "arguments")
Program: TypeAlias = tuple[str, str]
"""The name of its file, and its arguments."""
Install: TypeAlias = Callable[[], tuple[str, Path] | None]
AT_ONCE = 4
"""Most of them are silent for a while, and wait."""


@dataclass(frozen=True)
class Played:
    """A program's run, ended."""

    lines: dict[str, Any]
    """What it printed, by scenario."""
    trace: Trace
    returncode: int = 0
    stderr: str = ""

    def turns(self, scenario: str) -> list[Turn]:
        return [turn for turn in self.trace if asked(turn) == scenario]


@dataclass(frozen=True)
class Plays:
    """All the runs; a program is missing where its interpreter is not on this machine."""

    played: dict[Program, Played] = field(default_factory=dict)


async def play_all(wanted: Collection[Program], installs: Sequence[Install]) -> Plays:
    """Run these programs, in JavaScript with what the first of `installs` gives, in Python with the other."""
    plays, limit = Plays(), trio.CapacityLimiter(AT_ONCE)
    with trio.fail_after(900):
        async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
            for suffix, install in zip((".mjs", ".py"), installs, strict=True):
                programs = sorted(each for each in wanted if each[0].endswith(suffix))
                if programs:
                    nursery.start_soon(_play_some, endpoint, programs, install, limit, plays)
    return plays


async def _play_some(
    endpoint: Endpoint, programs: list[Program], install: Install, limit: trio.CapacityLimiter, plays: Plays
) -> None:
    where = await trio.to_thread.run_sync(install)
    if where is None:
        return
    interpreter, folder = where
    async with trio.open_nursery() as nursery:
        for program in programs:
            nursery.start_soon(_play, endpoint, program, interpreter, folder, limit, plays)


async def _play(
    endpoint: Endpoint,
    program: Program,
    interpreter: str,
    folder: Path,
    limit: trio.CapacityLimiter,
    plays: Plays,
) -> None:
    name, arguments = program
    async with limit, endpoint.open_rollout(Model()) as rollout:
        # litellm fetches its table of prices from the network, unless told not to.
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": None}
        result = await rollout.run_agent([interpreter, folder / name, *arguments.split()], env=env)
    lines = [json.loads(line) for line in result.stdout_text.splitlines() if line.startswith("{")]
    by_name = {line["scenario"]: line for line in lines}
    plays.played[program] = Played(by_name, rollout.trace, result.returncode, result.stderr_text)
