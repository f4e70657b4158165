"""`triocept run`: opens an endpoint and a rollout, and runs an agent."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import click
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._process.environment import agent_environment, opens_an_account
from .._process.process import OutputMode
from .._rollout.agent import Agent
from .._rollout.budget import Limits
from .._rollout.exchange import Exchange
from .._rollout.recorder_group import RecorderGroup
from .._rollout.rollout import Rollout
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import Recorder
from .._trace.redaction import Redaction
from .._util.terminal import Screen, say
from ..handlers import Policy, approve
from ..traces import RolloutEvent
from .agent_plan import AgentPlan, patience
from .json_events import json_events
from .live import Live
from .live_table import LiveTable, has_terminal, shown_table
from .replay import ReplayFile
from .script import Answers, Model
from .waiting import Waits


async def say_hello(exchange: Exchange) -> None:
    """Answer with a fixed greeting. This function is the handler if no option names a handler or a model."""
    await exchange.respond("Hello from triocept: this answer has reached your agent.")


@dataclass(frozen=True)
class Run:
    agent: AgentPlan
    handler: Model
    record: Path | None = None
    redact: Redaction | None = None
    keep_as: Path | None = None
    """Path of `--record-once`. If the agent ends with status 0, the file with the recorded turns is moved to this path.
    If None, the file is not moved.
    """
    host: str = "127.0.0.1"
    port: int = 0
    quiet: bool = False
    limits: Limits | None = None
    policy: Policy | None = None
    cwd: Path | None = None
    as_json: bool = False
    view: bool = False
    live: bool = False
    """True if a table shows the run on the terminal. The agent's output is then printed after the agent has ended."""
    interactive: bool = False
    """True if the agent gets the terminal. This program then prints its own output after the agent has ended."""

    async def run(self) -> int:
        """Run the agent, and return its exit status. If a signal ended the agent, return 128 plus the signal's number.

        If an exception is raised, for example in a handler, this method raises it, whatever the agent's status is.
        """
        table = table_of(self.live, self.limits)
        live = Live(
            quiet=self.quiet,
            record=self.record,
            turns=not self.interactive and table is None,
            policy=self.policy,
        )
        if self.keep_as is not None and self.record is not None:
            self.record.unlink(missing_ok=True)  # left by a run that did not end well
        try:
            with TemporaryDirectory(prefix="triocept-", ignore_cleanup_errors=True) as folder:
                returncode = await self._run_in(Path(folder), live, table)
            if self.keep_as is not None and returncode:
                live.say(
                    f"the recording was not saved as {self.keep_as}, because the agent ended with exit status "
                    f"{returncode}; use the same command to record the run again"
                )
            elif self.keep_as is not None and self.record is not None and self.record.exists():
                live.file = self.record.replace(self.keep_as)
        finally:
            live.close()
        return returncode if returncode >= 0 else 128 - returncode

    async def _run_in(self, folder: Path, live: Live, table: LiveTable | None) -> int:
        opening = open_rollout(
            self.handler,
            live,
            record=self.record,
            redact=self.redact,
            at=(self.host, self.port),
            limits=self.limits,
            policy=self.policy,
            as_json=self.as_json,
            view=self.view,
            table=table,
        )
        async with opening as (endpoint, rollout, answers):
            launch = self.agent.launch(rollout, folder)
            live.begin(endpoint, rollout, launch.argv)
            if self.agent.name is not None:
                asks = "" if self.policy is not None else "; the agent runs its tools without asking"
                live.note(
                    f"config   {'your own' if self.agent.keep_home else 'temporary, not your own'}{asks}"
                )
            if warning := self.agent.overridden:
                live.say(warning)
            if isinstance(self.handler, ReplayFile):
                live.note(f"replay   {self.handler.what}")
            hidden = [name for name in self.handler.variables if name not in rollout.environ()]
            env: dict[str, str | None] = {**dict.fromkeys(hidden), **launch.env, **self.agent.env}
            if self.interactive and Path(launch.argv[0]).name == "claude":
                # Claude Code would ask whether to use the key; of a token it does not ask
                env = {"ANTHROPIC_API_KEY": None, "ANTHROPIC_AUTH_TOKEN": rollout.api_key, **env}
            passed = agent_environment(os.environ, rollout.environ(), env)
            if left_out := sorted(os.environ.keys() - passed.keys()):
                live.note(
                    f"environ  the agent does not get {', '.join(left_out)}; to pass one of them, use --env NAME"
                )
            mine = passed.keys() - rollout.environ().keys() - env.keys()
            if kept := sorted(name for name in mine if opens_an_account(name)):
                live.note(
                    f"environ  the agent can use {', '.join(kept)}; to hide one of them, use --env NAME="
                )
            process: Agent | None = None
            why: str | None = "the run ended early"
            try:
                with ExitStack() as stack:
                    output: OutputMode = "terminal" if self.interactive else "inherit"
                    if table is not None:  # its lines would be drawn over
                        output = "capture"
                        stack.callback(print_held, folder)
                    try:
                        opening_agent = rollout.open_agent(
                            launch.argv,
                            env=env,
                            output=output,
                            stdout_file=folder / "stdout" if table is not None else None,
                            stderr_file=folder / "stderr" if table is not None else None,
                            cwd=self.cwd,
                            keep_home=self.agent.keep_home,
                        )
                    except ValueError as exc:  # something disables the hook that asks for decisions
                        raise click.UsageError(str(exc)) from None
                    async with shown_table(table), opening_agent as process:
                        if self.interactive:
                            stack.enter_context(held_output())
                        with trio.move_on_after(patience(self.limits)):
                            if table is None and not self.interactive:
                                await Waits(rollout, self.handler, live).during(process.wait)
                            await process.wait()
                            why = None
            finally:  # also if a handler has failed meanwhile
                if process is not None:
                    stopped = rollout.trace.stopped
                    live.ended(process.result, f"{stopped}" if why is not None and stopped else why)
        live.end(rollout, answers.model, self.agent.name)
        return process.result.returncode


@asynccontextmanager
async def open_rollout(
    handler: Model,
    live: Live,
    *,
    record: Path | None,
    redact: Redaction | None,
    at: tuple[str, int],
    limits: Limits | None,
    policy: Policy | None,
    as_json: bool,
    view: bool = False,
    table: LiveTable | None = None,
) -> AsyncIterator[tuple[Endpoint, Rollout, Answers]]:
    """Open the handler, an endpoint at the host and port `at`, and a rollout.

    While the rollout is open, each turn is recorded, and then printed.
    """
    recorders: list[Recorder] = [] if record is None else [JSONLRecorder(record)]
    recorder = RecorderGroup([*recorders, live])
    async with json_events(as_json) as print_event, handler.open(live.say) as answers:
        receivers = [each for each in (print_event, table and table.take) if each is not None]

        def on_event(event: RolloutEvent) -> None:
            for receive in receivers:
                receive(event)

        serving = serve_endpoint(
            host=at[0],
            port=at[1],
            recorder=recorder,
            redact=redact,
            on_event=on_event if receivers else None,
            view=view,
        )
        async with serving as endpoint:
            if view:
                say(f"▸ view     {endpoint.view_url}")
            model = answers.model if policy is None else approve(answers.model, policy)
            async with endpoint.open_rollout(model, limits=limits, embed=answers.embeddings) as rollout:
                yield endpoint, rollout, answers


def table_of(wanted: bool, limits: Limits | None) -> LiveTable | None:
    return LiveTable(limits.prices if limits is not None else None) if wanted and has_terminal() else None


def print_held(folder: Path) -> None:
    """Print the agent's output, which was written to files in `folder` while a live table filled the terminal."""
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if (path := folder / name).exists():
            stream.write(path.read_text(errors="replace"))
            stream.flush()


@contextmanager
def held_output() -> Iterator[None]:
    """Collect this program's output while the block runs and an agent has the terminal. Print the output afterwards."""
    with TemporaryFile() as held:
        before = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(held.fileno(), number)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, saved in zip((1, 2), before, strict=True):
                os.dup2(saved, number)
                os.close(saved)
            held.seek(0)
            Screen(patience=1).write(held.read().decode(errors="replace"))
