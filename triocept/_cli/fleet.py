"""`triocept fleet`: runs a rollout for each prompt of a file, and writes the results into a store.

Rules:

1. Errors in the tasks, the agent, the handler, the store or the engine are reported before any agent starts.
2. However the command ends, the store contains the finished work, and the command that resumes the run is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
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
from ..fleets import Engine, Outcome, Store, open_fleet, open_store
from ..fleets.store.keys import key_of
from ..fleets.store.store import check_unchanged
from .ending import in_options
from .fleet_live import WordsWithTable, followed_store, serve_view
from .fleet_worker import Plan, open_bench, rollout
from .forward import Forward
from .live_table import LiveTable, has_terminal
from .script import Model
from .words import counted

REASON_LENGTH = 500
"""Maximum characters to print of a failure's error text."""
NAME_LENGTH = 256
"""Length at which a word of the agent's command is too long to be checked as a file name."""
TO_ANSWER = 10.0
"""Maximum seconds to wait for an upstream's answer to the check at the start."""


@dataclass(frozen=True)
class FleetRun:
    tasks: dict[str, dict[str, Any]]
    """Tasks. The key is the file and the line with the task: `FILE:LINE`."""
    plan: Plan
    engine: Engine
    store: Path
    settings: dict[str, Json]
    group_size: int | None
    rollout_retries: int
    timeout: float | None
    most_failures: float | None
    """Maximum number of failed or lost rollouts; a number below 1 is a share of all rollouts. When reached: the run
    ends. None means no limit.
    """
    retry_errors: bool
    quiet: bool
    view: bool = False
    live: bool = False

    async def run(self) -> int:
        """Run the fleet. Return 0 if all tasks are done, and 1 if a task failed or no agent made a model call.

        Raises:
            Exception: the script is invalid.
            click.UsageError: the upstream does not answer.
        """
        await check_model(self.plan.handler, self._say)
        async with open_store(self.store, settings=self.settings, retry_errors=self.retry_errors) as store:
            for place, task in self.tasks.items():
                check_unchanged(store, key_of(task, place), self.group_size or 1)
            lost = 0
            try:
                lost = await self._map(store)
            finally:
                stored = Stored.of(store, self.tasks.values())
                words = [f"{stored.done:,} of {self._total:,} done"]
                words += [f"{stored.failed:,} failed"] if stored.failed else []
                words += ["but no agent called the model"] if stored.without_calls else []
                self._say(f"store    {self.store}: {', '.join(words)}")
                if (missing := self._total - stored.done - stored.failed) > 0:
                    self._say(f"to run the other {missing:,}, use the same command with --resume")
                if stored.without_calls:
                    self._say(
                        "these tasks count as done; to run them again, correct the cause and name another --store"
                    )
                if stored.last_failure:
                    self._say(f"the last failure: {stored.last_failure}")
                    if not stored.done and (hint := relative_file_in(self.plan)):
                        self._say(hint)
                    self._say("to run failed tasks again, use the same command with --resume --retry-errors")
        return 1 if stored.failed or lost or stored.without_calls else 0

    async def _map(self, store: Store) -> int:
        """Run the remaining tasks. Return the number of lost rollouts: those whose results are not in the store."""
        lost = failed = 0
        most = inf if self.most_failures is None else self.most_failures
        if most < 1:
            most *= self._total
        if (
            most < inf
            and not self.retry_errors
            and (failed := Stored.of(store, self.tasks.values()).failed) >= most
        ):
            self._say(
                f"{counted(failed, 'rollout', 'rollouts')} had failed before this command, so it runs no further task "
                "(--fail-on-error)"
            )
            return 0
        prices = self.plan.limits.prices
        table = LiveTable(prices) if self.live and has_terminal() else None
        words: Any = WordsWithTable(table) if table is not None else not self.quiet
        opening = open_fleet(
            self.engine, worker=partial(open_bench, self.plan), retries=self.rollout_retries, progress=words
        )
        async with (
            serve_view(self.view, f"{self.store}") as view,
            opening as fleet,
            followed_store(fleet, self.store, prices, table, view),
        ):
            mapping = fleet.map(
                rollout, [*self.tasks.values()], store=store, group_size=self.group_size, timeout=self.timeout
            )
            async with mapping as results:
                async for result in results:
                    lost += isinstance(result.outcome, Outcome.Lost)
                    failed += isinstance(result.outcome, (Outcome.Error, Outcome.Lost))
                    if failed >= most:
                        self._say(
                            f"the run ends, because {counted(failed, 'rollout', 'rollouts')} failed (--fail-on-error)"
                        )
                        break
        return lost

    @property
    def _total(self) -> int:
        return len(self.tasks) * (self.group_size or 1)

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(f"▸ {text}")


@dataclass(frozen=True)
class Stored:
    """Counts of the rollouts in a store that belong to the tasks of this run."""

    done: int
    failed: int
    last_failure: str
    """Task and error of the last failure; empty if no task has failed."""
    without_calls: bool
    """True if at least one rollout is done, and no done rollout has a turn or was ended by a limit."""

    @classmethod
    def of(cls, store: Store, tasks: Iterable[dict[str, Any]]) -> Stored:
        keys = {key_of(task, "a task").key for task in tasks}
        done = failed = silent = 0
        last = ""
        for result in store.results():
            outcome = result.outcome
            if result.key in keys and isinstance(outcome, Outcome.Error):
                failed += 1
                text = in_options(" ".join(str(outcome.error).split()))
                last = f"task {result.key}: {text[:REASON_LENGTH]}"
            elif result.key in keys:
                done += 1
                value = outcome.value if isinstance(outcome, Outcome.Value) else {}
                silent += not value.get("turns") and value.get("stopped") is None
        return cls(done, failed, last, bool(done) and silent == done)


def relative_file_in(plan: Plan) -> str | None:
    """Return a hint if the agent's command names, by a relative path, a file that the agent's directory does not have.

    Return None if it names no such file.
    """
    here = [
        word
        for word in (*plan.agent.command[1:], *plan.agent.options)
        if len(word) < NAME_LENGTH and not os.path.isabs(word) and os.path.isfile(word)
    ]
    there = plan.workspace
    if name := next((each for each in here if there is None or not (there / each).exists()), None):
        return (
            f"each agent works in its own directory, but {name} is a file of this directory: give its absolute path, "
            "or put it into --workspace"
        )
    return None


async def check_model(handler: Model | None, say: Callable[[str], None]) -> None:
    """Open and close the model of `handler`, so that an error of the model is reported before an agent starts."""
    if handler is None:
        say(
            "every call gets the same greeting as its answer, because no --script, --handler or --upstream is given"
        )
        return
    async with handler.open(say):
        if isinstance(handler, Forward):
            await check_reachable(handler.url)


async def check_reachable(url: str) -> None:
    """Raise click.UsageError if no HTTP server answers at the URL. An answer with any status is accepted."""
    import httpx2  # imported here: commands that read files need no HTTP client

    from .._upstream.proxies import proxy_for

    address = parse_address(url)
    try:
        async with httpx2.AsyncClient(timeout=TO_ANSWER, trust_env=not address.here) as client:
            await client.get(address.base)
    except httpx2.TransportError as exc:
        where = urlsplit(address.base).netloc.rpartition("@")[2]
        what = "start the server, or correct the URL"
        if not address.here and (proxy := proxy_for(address.base)) is not None:
            where += f" by the proxy {proxy.address}, which {proxy.variable} names"
            what = f"start the proxy, or run `unset {proxy.variable}`"
        raise click.UsageError(
            f"--upstream: no server answers at {where}: {str(exc) or type(exc).__name__}; {what}"
        ) from exc
