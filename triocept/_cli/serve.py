"""An endpoint that stays: what `triocept serve` does."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._rollout.budget import Limits
from .._rollout.rollout import Rollout
from .._rollout.workers import Handler
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import Recorder, RecorderGroup
from ..dialects import known_dialects
from .forward import Forward
from .live import Live
from .script import Script

__all__ = ["Serve"]


@dataclass(frozen=True)
class Serve:
    """One `triocept serve`."""

    handler: Handler | Forward | Script
    record: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    quiet: bool = False
    limits: Limits | None = None

    async def run(self) -> int:
        """Serve until it is cancelled."""
        live = Live(quiet=self.quiet, record=self.record)
        recorders: list[Recorder] = [] if self.record is None else [JSONLRecorder(self.record)]
        try:
            async with self._open(RecorderGroup([*recorders, live]), live) as (endpoint, rollout):
                _print(described(endpoint, rollout))
                live.opened()
                await trio.sleep_forever()
        finally:
            live.close()

    @asynccontextmanager
    async def _open(self, recorder: Recorder, live: Live) -> AsyncIterator[tuple[Endpoint, Rollout]]:
        async with AsyncExitStack() as stack:
            handler = self.handler
            if isinstance(handler, Forward):
                live.say(handler.warning)
            if isinstance(handler, Forward | Script):
                handler = await stack.enter_async_context(handler.open())
            serving = serve_endpoint(host=self.host, port=self.port, recorder=recorder)
            endpoint = await stack.enter_async_context(serving)
            rollout = await stack.enter_async_context(endpoint.open_rollout(handler, limits=self.limits))
            yield endpoint, rollout


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, "standard output") from exc


def described(endpoint: Endpoint, rollout: Rollout) -> str:
    """What somebody needs to point an agent there, as lines for a shell."""
    lines = [f"# endpoint {endpoint.url}, rollout {rollout.id}; ends with Ctrl-C or SIGTERM"]
    lines += [f"# base URL for {name}: {rollout.base_url(name)}" for name in known_dialects()]
    lines += [f"# key: {rollout.api_key}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in rollout.environ().items()]
    return "\n".join(lines)
