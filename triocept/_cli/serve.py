"""An endpoint that stays open: `triocept serve`."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._rollout.budget import Limits
from .._rollout.recorder_group import RecorderGroup
from .._rollout.rollout import Rollout
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import Recorder
from .._trace.redaction import Redaction
from .._util.terminal import say
from ..dialects import known_dialects
from .forward import Forward
from .live import Live
from .script import Answers, Script
from .watch import WatchedScript


@dataclass(frozen=True)
class Serve:
    """A run of `triocept serve`."""

    handler: Answers | Forward | Script
    record: Path | None = None
    redact: Redaction | None = None
    host: str = "127.0.0.1"
    port: int = 0
    quiet: bool = False
    limits: Limits | None = None
    watch: bool = False
    """True if the script is reloaded when its file changes."""

    async def run(self) -> int:
        """Serve until cancelled."""
        live = Live(quiet=self.quiet, record=self.record)
        recorders: list[Recorder] = [] if self.record is None else [JSONLRecorder(self.record)]
        try:
            if self.watch and isinstance(self.handler, Script):
                await self._run_watched(self.handler, RecorderGroup([*recorders, live]), live)
            await self._serve(self.handler, RecorderGroup([*recorders, live]), live)
        finally:
            live.close()

    async def _run_watched(self, script: Script, recorder: Recorder, live: Live) -> NoReturn:
        script.prepare()
        async with trio.open_nursery() as nursery:
            watched = WatchedScript(script.path, say if self.quiet else live.say, live.note)
            nursery.start_soon(watched.watch)
            await self._serve(Answers(watched, watched.embed), recorder, live)
        raise AssertionError

    async def _serve(self, handler: Answers | Forward | Script, recorder: Recorder, live: Live) -> NoReturn:
        async with AsyncExitStack() as stack:
            answers = await stack.enter_async_context(handler.open(live.say))
            serving = serve_endpoint(host=self.host, port=self.port, recorder=recorder, redact=self.redact)
            endpoint = await stack.enter_async_context(serving)
            opening = endpoint.open_rollout(answers.model, limits=self.limits, embed=answers.embeddings)
            rollout = await stack.enter_async_context(opening)
            _print(described(endpoint, rollout))
            live.opened(rollout)
            await trio.sleep_forever()
        raise AssertionError


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, "standard output") from exc


def described(endpoint: Endpoint, rollout: Rollout) -> str:
    """Return the lines for a shell that connect an agent to the rollout."""
    lines = [f"# endpoint {endpoint.url}, rollout {rollout.id}; ends with Ctrl-C or SIGTERM"]
    lines += [f"# base URL for {name}: {rollout.base_url(name)}" for name in known_dialects()]
    lines += [f"# key: {rollout.api_key}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in rollout.environ().items()]
    return "\n".join(lines)
