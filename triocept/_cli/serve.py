"""`triocept serve`: runs an endpoint that stays open until Ctrl-C."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import trio

from .._endpoint import Endpoint
from .._rollout.budget import Limits
from .._rollout.rollout import Rollout
from .._trace.redaction import Redaction
from .._util.terminal import say
from ..dialects import known_dialects
from ..handlers import Policy
from .live import Live
from .live_table import shown_table
from .run import open_rollout, table_of
from .script import Answers, Model, Script
from .waiting import Waits
from .watch import WatchedScript


@dataclass(frozen=True)
class Serve:
    handler: Model
    record: Path | None = None
    redact: Redaction | None = None
    host: str = "127.0.0.1"
    port: int = 0
    quiet: bool = False
    limits: Limits | None = None
    policy: Policy | None = None
    as_json: bool = False
    view: bool = False
    live: bool = False
    """True if a table shows the calls on the terminal."""
    watch: bool = False
    """True if the script is reloaded when its file changes."""

    async def run(self) -> int:
        table = table_of(self.live, self.limits)
        live = Live(quiet=self.quiet, record=self.record, turns=table is None, policy=self.policy)
        try:
            async with trio.open_nursery() as nursery:
                handler = self.handler
                if self.watch and isinstance(handler, Script):
                    watched = WatchedScript(handler.path, say if self.quiet else live.say, live.note)
                    nursery.start_soon(watched.watch)
                    handler = Answers(watched, watched.embed)
                at = (self.host, self.port)
                opening = open_rollout(
                    handler,
                    live,
                    record=self.record,
                    redact=self.redact,
                    at=at,
                    limits=self.limits,
                    policy=self.policy,
                    as_json=self.as_json,
                    view=self.view,
                    table=table,
                )
                async with opening as (endpoint, rollout, _):
                    try:
                        click.echo(described(endpoint, rollout))
                    except OSError as exc:
                        raise OSError(exc.errno, exc.strerror, "standard output") from exc
                    live.opened(rollout)
                    async with shown_table(table):
                        if table is None:
                            await Waits(rollout, self.handler, live).during(trio.sleep_forever)
                        await trio.sleep_forever()
        finally:
            live.close()
        raise AssertionError


def described(endpoint: Endpoint, rollout: Rollout) -> str:
    """Return lines that a shell can execute. Agents that this shell then starts send their calls to this rollout."""
    lines = [f"# endpoint {endpoint.url}, rollout {rollout.id}; to end it, press Ctrl-C or send SIGTERM"]
    lines += [f"# base URL for {name}: {rollout.base_url(name)}" for name in known_dialects()]
    lines += [f"# key: {rollout.api_key}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in rollout.environ().items()]
    return "\n".join(lines)
