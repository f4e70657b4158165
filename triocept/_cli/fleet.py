"""Many rollouts, from a file of prompts into a store: `triocept fleet`.

Rules:

1. Errors are reported before any agent starts: in the tasks, the agent, the handler, the store, the engine.
2. However it ends, the store holds the finished work, and the command to resume is printed.
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
from .ending import in_options
from .fleet_worker import Plan, open_bench, rollout
from .forward import Forward

REASON_LENGTH = 500
"""Maximum characters of a failure."""
TO_ANSWER = 10.0
"""Maximum seconds until an upstream's first answer."""


@dataclass(frozen=True)
class FleetRun:
    """A run of `triocept fleet`."""

    tasks: list[dict[str, Any]]
    plan: Plan
    engine: Engine
    store: Path
    settings: dict[str, Json]
    group_size: int | None
    retries: int
    timeout: float | None
    most_failures: float | None
    """Maximum failed or lost rollouts; below 1: a share of all; None: no limit. When exceeded: the run ends."""
    retry_errors: bool
    quiet: bool

    async def run(self) -> int:
        """Run the fleet and return the exit status: 0 if all tasks are done, 1 if some failed."""
        await self._check_handler()
        async with open_store(self.store, settings=self.settings, retry_errors=self.retry_errors) as store:
            lost = 0
            try:
                lost = await self._map(store)
            finally:
                failed = self._sum_up(store)
        return 1 if failed or lost else 0

    async def _check_handler(self) -> None:
        """Raise if the model cannot answer.

        Raises:
            Exception: the script is invalid.
            click.ClickException: the upstream does not answer, or its URL is invalid.
        """
        handler = self.plan.handler
        if handler is None:
            self._say("no --script and no --upstream: every call is answered with one friendly sentence")
            return
        async with handler.open(self._say):
            if isinstance(handler, Forward):
                await _check_answers(handler.url)

    async def _map(self, store: Store) -> int:
        """Run the remaining tasks; return the number of lost rollouts, which the store does not have."""
        lost = failed = 0
        most = self._most_failures()
        if most < inf and not self.retry_errors:
            _, failed, _ = self._stored(store)
            if failed >= most:
                self._say(f"{failed:,} failed before: no further task is run (--fail-on-error)")
                return 0
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
        """Print the content of the store and the command to resume; return the number of failed rollouts."""
        done, failed, last = self._stored(store)
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

    def _stored(self, store: Store) -> tuple[int, int, Result[Any, Any] | None]:
        """Return how many rollouts of these tasks are done, and how many have failed, with the last failure."""
        keys = {key_of(task, "a task").key for task in self.tasks}
        done = failed = 0
        last: Result[Any, Any] | None = None
        for result in store.results():
            if result.key in keys and isinstance(result.outcome, Outcome.Error):
                failed, last = failed + 1, result
            else:
                done += result.key in keys
        return done, failed, last

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(f"▸ {text}")


def _described(result: Result[Any, Any]) -> str:
    """`task t5: AgentFailed: …`, in one line."""
    outcome = result.outcome
    assert isinstance(outcome, Outcome.Error)
    text = in_options(" ".join(str(outcome.error).split()))
    return f"task {result.key}: {text[:REASON_LENGTH]}"


async def _check_answers(url: str) -> None:
    """Raise if no HTTP server answers there, with any status."""
    import httpx2  # imported here: commands that read files need no HTTP client

    address = parse_address(url)
    try:
        async with httpx2.AsyncClient(timeout=TO_ANSWER, trust_env=not address.here) as client:
            await client.get(address.base)
    except httpx2.TransportError as exc:
        where = urlsplit(address.base).netloc.rpartition("@")[2]
        raise click.ClickException(
            f"--upstream: nobody answers at {where}: {str(exc) or type(exc).__name__}"
        ) from exc
