"""Many rollouts, from a file of prompts into a store: what `triocept fleet` does.

Rules:

1. What can be wrong is said before any agent starts: the tasks, the agent, what answers, the store, the engine.
2. Whatever way it ends, the store holds what is done, and it is said how to go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from .._canonical.content import Json
from .._upstream.address import parse_address
from .._util.terminal import say
from ..fleets import Engine, Outcome, Result, Store, open_fleet, open_store
from ..fleets.store.keys import key_of
from .fleet_worker import Plan, open_bench, rollout
from .forward import Forward

REASON_LENGTH = 500
"""Characters of a failure."""
TO_ANSWER = 10.0
"""Seconds that an upstream has for its first answer."""


@dataclass(frozen=True)
class FleetRun:
    """One `triocept fleet`."""

    tasks: list[dict[str, Any]]
    plan: Plan
    engine: Engine
    store: Path
    settings: dict[str, Json]
    group_size: int | None
    retries: int
    timeout: float | None
    most_failures: float | None
    """How many may fail or be lost before the run ends: a number, or if it is below 1 a share of all. None: all may."""
    retry_errors: bool
    quiet: bool

    async def run(self) -> int:
        """The status to end with: 0 if all that the tasks ask for is done, 1 if some failed."""
        await self._check_handler()
        async with open_store(self.store, settings=self.settings, retry_errors=self.retry_errors) as store:
            lost = 0
            try:
                lost = await self._map(store)
            finally:
                failed = self._sum_up(store)
        return 1 if failed or lost else 0

    async def _check_handler(self) -> None:
        """See whether there is somebody who answers.

        Raises:
            Exception: what is wrong with the script.
            click.ClickException: nobody answers where the upstream is to be, or it is none.
        """
        handler = self.plan.handler
        if handler is None:
            self._say("no --script and no --upstream: every call is answered with one friendly sentence")
            return
        async with handler.open(self._say):
            if isinstance(handler, Forward):
                await _check_answers(handler.url)

    async def _map(self, store: Store) -> int:
        """Run what is not done yet; return how many were lost, which the store does not have."""
        lost = failed = 0
        most = self._most_failures()
        opening = open_fleet(
            self.engine, worker=partial(open_bench, self.plan), retries=self.retries, progress=not self.quiet
        )
        async with opening as fleet:
            mapping = fleet.map(
                rollout, self.tasks, store=store, group_size=self.group_size, timeout=self.timeout
            )
            async with mapping as results:
                async for result in results:
                    lost += isinstance(result.outcome, Outcome.Lost)
                    failed += isinstance(result.outcome, (Outcome.Error, Outcome.Lost))
                    if failed >= most:
                        self._say(f"{failed:,} failed: the run ends here (--fail-on-error)")
                        break
        return lost

    def _most_failures(self) -> float:
        most = inf if self.most_failures is None else self.most_failures
        return most if most >= 1 else most * len(self.tasks) * (self.group_size or 1)

    def _sum_up(self, store: Store) -> int:
        """Say what is in the store, and how to go on; how many have failed."""
        keys = {key_of(task, "a task").key for task in self.tasks}
        done = failed = 0
        last: Result[Any, Any] | None = None
        for result in store.results():
            if result.key in keys and isinstance(result.outcome, Outcome.Error):
                failed, last = failed + 1, result
            else:
                done += result.key in keys
        total = len(self.tasks) * (self.group_size or 1)
        missing = total - done - failed
        words = [f"{done:,} of {total:,} done", *([f"{failed:,} failed"] if failed else [])]
        self._say(f"store    {self.store}: {', '.join(words)}")
        if missing > 0:
            self._say(f"to go on with the other {missing:,}: the same command with --resume")
        if last is not None:
            self._say(f"the last failure is that of {_described(last)}")
            self._say("what failed is run again by --resume --retry-errors")
        return failed

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(f"▸ {text}")


def _described(result: Result[Any, Any]) -> str:
    """`task t5: AgentFailed: …`, in one line."""
    outcome = result.outcome
    assert isinstance(outcome, Outcome.Error)
    text = " ".join(str(outcome.error).split())
    return f"task {result.key}: {text[:REASON_LENGTH]}"


async def _check_answers(url: str) -> None:
    """See whether anybody speaks HTTP there, whatever is said."""
    import httpx2  # here: who looks at a file needs no HTTP client

    address = parse_address(url)
    try:
        async with httpx2.AsyncClient(timeout=TO_ANSWER, trust_env=not address.here) as client:
            await client.get(address.base)
    except httpx2.TransportError as exc:
        where = urlsplit(address.base).netloc.rpartition("@")[2]
        raise click.ClickException(
            f"--upstream: nobody answers at {where}: {str(exc) or type(exc).__name__}"
        ) from exc
