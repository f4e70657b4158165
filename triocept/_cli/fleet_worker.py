"""The work of `triocept fleet` in a worker: the model, opened once, and a rollout for each task."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._process.output import AgentResult
from .._rollout.budget import Limits
from .._rollout.embedding import Embed
from .._rollout.rollout import Rollout
from .._rollout.workers import Handler
from .._trace.redaction import Redaction, Redactor
from ..agents import Launch, agent
from .forward import Forward
from .run import TO_END, say_hello
from .script import Script, read_answers

PROMPT = "{prompt}"
"""Placeholder of the task's prompt in a command."""
OUTPUT_LENGTH = 20_000
"""Characters of an agent's output to keep: its end, which usually reports the outcome."""


@dataclass(frozen=True)
class Plan:
    """Settings that all tasks share. They are sent to the workers."""

    handler: Forward | Script | None
    """The model; None: each call gets one fixed greeting."""
    agent: str | None
    """A known agent; None: `command` starts the agent."""
    executable: str | None
    command: tuple[str, ...]
    limits: Limits
    """Limits of each rollout."""
    workspace: Path | None
    """Directory of which each agent gets a copy to work in; None: an empty directory."""
    redact: Redaction | None = None
    agent_options: tuple[str, ...] = ()
    """Options of the known agent, which follow the options of its launch."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that each agent gets in addition to its environment."""


@dataclass(frozen=True)
class Bench:
    """The open resources of a worker."""

    plan: Plan
    endpoint: Endpoint
    upstream: Handler | None

    def answers(self) -> tuple[Handler, Embed | None]:
        """Return the handler of one rollout, which begins a script anew. The script's warnings are printed already."""
        if isinstance(self.plan.handler, Script):
            answers = read_answers(self.plan.handler.path, _unsaid)
            return answers.model, answers.embeddings
        return self.upstream or say_hello, None


def _unsaid(warning: str) -> None:
    """Ignore a warning that was printed before any worker began."""


@asynccontextmanager
async def open_bench(plan: Plan) -> AsyncIterator[Bench]:
    """Open a worker's resources."""
    async with AsyncExitStack() as stack:
        upstream = None
        if isinstance(plan.handler, Forward):
            upstream = (await stack.enter_async_context(plan.handler.open(_unsaid))).model
        elif plan.handler is not None:
            plan.handler.prepare()
        yield Bench(plan, await stack.enter_async_context(serve_endpoint(redact=plan.redact)), upstream)


async def rollout(bench: Bench, task: dict[str, Any], *, attempt: int) -> dict[str, Any]:
    """Run an agent with a prompt.

    Raises:
        AgentFailed: it ended with a status other than 0, and no limit had ended its run before.
    """
    plan = bench.plan
    handler, embed = bench.answers()
    opening = bench.endpoint.open_rollout(
        handler, limits=plan.limits, embed=embed, metadata=task.get("metadata")
    )
    async with _open_folder() as folder, opening as run:
        work = await _workspace(plan, folder)
        launch = _launch(plan, run, folder / "agent", task["prompt"])
        result = await _run(plan, run, launch, work)
    if run.trace.stopped is None:
        result.check()
    return _value(run, result, Redactor(plan.redact))


async def _run(plan: Plan, run: Rollout, launch: Launch, work: Path) -> AgentResult:
    variables = plan.handler.variables if plan.handler is not None else ()
    hidden = dict.fromkeys(name for name in variables if name not in run.environ())
    env = {**hidden, **launch.env, **plan.env}
    seconds = plan.limits.seconds
    async with run.open_agent(launch.argv, env=env, cwd=work) as process:
        with trio.move_on_after(inf if seconds is None else seconds + TO_END):
            await process.wait()
    return process.result


def _launch(plan: Plan, run: Rollout, folder: Path, prompt: str) -> Launch:
    if plan.agent is None:
        return Launch(argv=tuple(word.replace(PROMPT, prompt) for word in plan.command))
    options = {} if plan.executable is None else {"executable": plan.executable}
    launch = agent(plan.agent)(run, folder, prompt, **options)
    return msgspec.structs.replace(launch, argv=(*launch.argv, *plan.agent_options))


def _value(run: Rollout, result: AgentResult, redactor: Redactor) -> dict[str, Any]:
    """Return the values that are kept in addition to the traces."""
    usage = run.trace.usage
    return {
        "returncode": result.returncode,
        "stopped": run.trace.stopped,
        "seconds": round(result.duration, 3),
        "turns": len(run.trace),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "output": redactor.text(result.stdout_text)[-OUTPUT_LENGTH:],
    }


@asynccontextmanager
async def _open_folder() -> AsyncIterator[Path]:
    """Open a directory that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="triocept-"))
    try:
        yield folder
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


async def _workspace(plan: Plan, folder: Path) -> Path:
    work, template = folder / "work", plan.workspace
    if template is None:
        work.mkdir()
    else:
        await trio.to_thread.run_sync(lambda: shutil.copytree(template, work, symlinks=True))
    return work
