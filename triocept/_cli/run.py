"""An endpoint, a rollout, an agent: `triocept run`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import trio

from .._endpoint import serve_endpoint
from .._process.environment import agent_environment, opens_an_account
from .._process.output import AgentResult
from .._rollout.agent import Agent
from .._rollout.budget import Limits
from .._rollout.exchange import Exchange
from .._rollout.recorder_group import RecorderGroup
from .._rollout.rollout import Rollout
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import Recorder
from .._trace.redaction import Redaction
from ..agents import Launch, agent
from .forward import Forward
from .live import Live
from .replay import ReplayFile
from .script import Answers, Script

TO_END = 10.0
"""Seconds for an agent to end by itself after `--max-seconds`.

Model calls are then refused, and most agents end at once."""


async def say_hello(exchange: Exchange) -> None:
    """Answer with a fixed greeting: the default handler."""
    await exchange.respond("Hello from triocept: your agent and its model can hear each other.")


@dataclass(frozen=True)
class Run:
    """A run of `triocept run`."""

    command: tuple[str, ...]
    handler: Answers | Forward | Script | ReplayFile
    record: Path | None = None
    redact: Redaction | None = None
    keep_as: Path | None = None
    """File for the recorded turns, if the agent ends well."""
    host: str = "127.0.0.1"
    port: int = 0
    quiet: bool = False
    limits: Limits | None = None
    cwd: Path | None = None
    agent: str | None = None
    """A known agent; `command` is then its prompt."""
    executable: str | None = None
    """The known agent's command, if it is not the usual one."""
    agent_options: tuple[str, ...] = ()
    """Options of the known agent, which follow the options of its launch."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that the agent gets in addition to its environment."""

    async def run(self) -> int:
        """Run the agent and return the exit status: its own (128 and the signal if a signal ended it, as in a shell).

        Raises:
            Exception: an error that ends the command with another status, for example a handler's, whatever the agent
                did.
        """
        live = Live(quiet=self.quiet, record=self.record)
        if self.keep_as is not None and self.record is not None:
            self.record.unlink(missing_ok=True)  # left by a run that did not end well
        recorders: list[Recorder] = [] if self.record is None else [JSONLRecorder(self.record)]
        recorders.append(live)
        try:
            with TemporaryDirectory(prefix="triocept-", ignore_cleanup_errors=True) as folder:
                returncode = await self._run_in(Path(folder), live, recorders)
            if self.keep_as is not None:
                self._keep(self.keep_as, returncode, live)
        finally:
            live.close()
        return returncode if returncode >= 0 else 128 - returncode

    async def _run_in(self, folder: Path, live: Live, recorders: list[Recorder]) -> int:
        async with AsyncExitStack() as stack:
            answers = await stack.enter_async_context(self.handler.open(live.say))
            recorder = RecorderGroup(recorders)
            serving = serve_endpoint(host=self.host, port=self.port, recorder=recorder, redact=self.redact)
            endpoint = await stack.enter_async_context(serving)
            opening = endpoint.open_rollout(answers.model, limits=self.limits, embed=answers.embeddings)
            async with opening as rollout:
                launch = self._launch(rollout, folder)
                live.begin(endpoint, rollout, launch.argv)
                if self.agent is not None:
                    live.note("config   temporary, not your own; the agent runs its tools without asking")
                if isinstance(self.handler, ReplayFile):
                    live.note(f"replay   {self.handler.what}")
                hidden = [name for name in self.handler.variables if name not in rollout.environ()]
                env = {**dict.fromkeys(hidden), **launch.env, **self.env}
                passed = agent_environment(os.environ, rollout.environ(), env)
                if left_out := sorted(os.environ.keys() - passed.keys()):
                    live.note(f"environ  without {', '.join(left_out)}; --env NAME passes one")
                mine = passed.keys() - rollout.environ().keys() - env.keys()
                if kept := sorted(name for name in mine if opens_an_account(name)):
                    live.note(f"environ  the agent can use {', '.join(kept)}; --env NAME= empties one")
                starting = rollout.open_agent(launch.argv, env=env, output="inherit", cwd=self.cwd)
                result = await self._wait(starting, live)
        live.end(rollout, answers.model, self.agent)
        return result.returncode

    async def _wait(self, starting: AbstractAsyncContextManager[Agent], live: Live) -> AgentResult:
        """Wait for the agent's end, and report its result, also if a handler has failed meanwhile."""
        process: Agent | None = None
        try:
            async with starting as process:
                with trio.move_on_after(self._patience):
                    await process.wait()
        finally:
            if process is not None:
                live.ended(process.result)
        return process.result

    def _keep(self, path: Path, returncode: int, live: Live) -> None:
        """Move the recorded turns to the file for replays, unless the run failed."""
        if returncode:
            live.say(f"not kept as {path}, to be recorded again: the agent ended with {returncode}")
        elif self.record is not None and self.record.exists():
            live.file = self.record.replace(path)

    @property
    def _patience(self) -> float:
        """Return the seconds after which an agent that has not ended by itself is ended."""
        seconds = None if self.limits is None else self.limits.seconds
        return inf if seconds is None else seconds + TO_END

    def _launch(self, rollout: Rollout, folder: Path) -> Launch:
        if self.agent is None:
            return Launch(argv=self.command)
        options = {} if self.executable is None else {"executable": self.executable}
        launch = agent(self.agent)(rollout, folder, " ".join(self.command), **options)
        return msgspec.structs.replace(launch, argv=(*launch.argv, *self.agent_options))
