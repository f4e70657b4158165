"""The part of `triocept fleet` that runs in each worker: an endpoint, the model, and a rollout for each task."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._rollout.budget import Limits
from .._rollout.rollout import Rollout
from .._trace.redaction import Redaction, Redactor
from ..agents import Launch
from ..handlers import Policy, approve
from .agent_plan import AgentPlan, patience
from .forward import Forward
from .run import say_hello
from .script import Answers, Model

OUTPUT_LENGTH = 20_000
"""Number of last characters to keep of an agent's output. The end of the output usually reports the outcome."""


def ignore(warning: str) -> None:
    """Ignore a warning in a worker, because the command has already printed it before it started the workers."""


@dataclass(frozen=True)
class Plan:
    """Settings that all tasks share, and that the driver sends to the workers."""

    handler: Model | None
    """The model that answers calls. None means that every call gets the same fixed greeting."""
    agent: AgentPlan
    limits: Limits
    """Limits of each rollout."""
    policy: Policy | None
    """Policy that decides on tool calls; if None, all calls are approved."""
    workspace: Path | None
    """Directory of which each agent gets a copy to work in. None means that each agent gets an empty directory."""
    redact: Redaction | None = None

    def launch(self, run: Rollout, folder: Path, prompt: str) -> Launch:
        """Return the command that starts the agent, and the changes to the agent's environment variables.

        Variables that the handler uses, such as a provider's key, are removed from the agent's environment.
        """
        launch = self.agent.launch(run, folder, prompt)
        variables = self.handler.variables if self.handler is not None else ()
        hidden = dict.fromkeys(name for name in variables if name not in run.environ())
        return msgspec.structs.replace(launch, env={**hidden, **launch.env, **self.agent.env})


@dataclass(frozen=True)
class Bench:
    plan: Plan
    endpoint: Endpoint
    model: Model
    """The model that answers calls. The model is opened again for each rollout, so that a script starts from its
    beginning.
    """


@asynccontextmanager
async def open_model(handler: Model | None) -> AsyncIterator[Model]:
    """Open a handler that forwards calls to a real model, and yield it, because all rollouts share it.

    Any other handler is yielded unopened, because each rollout opens it.
    """
    if isinstance(handler, Forward):
        async with handler.open(ignore) as answers:
            yield answers
    else:
        await trio.lowlevel.checkpoint()
        yield handler or Answers(say_hello)


@asynccontextmanager
async def open_bench(plan: Plan) -> AsyncIterator[Bench]:
    async with open_model(plan.handler) as model, serve_endpoint(redact=plan.redact) as endpoint:
        yield Bench(plan, endpoint, model)


async def rollout(bench: Bench, task: dict[str, Any], *, attempt: int) -> dict[str, Any]:
    """Run an agent with the prompt of a task. Return the result, which the store keeps in addition to the traces.

    Raise AgentFailed if the agent ended with a status other than 0, and no limit had ended the run before.
    """
    plan = bench.plan
    folder = Path(tempfile.mkdtemp(prefix="triocept-"))
    work = folder / "work"
    try:
        async with AsyncExitStack() as stack:
            answers = await stack.enter_async_context(bench.model.open(ignore))
            model = answers.model if plan.policy is None else approve(answers.model, plan.policy)
            opening = bench.endpoint.open_rollout(
                model, limits=plan.limits, embed=answers.embeddings, metadata=task.get("metadata")
            )
            run = await stack.enter_async_context(opening)
            if (template := plan.workspace) is None:
                work.mkdir()
            else:
                await trio.to_thread.run_sync(lambda: shutil.copytree(template, work, symlinks=True))
            launch = plan.launch(run, folder / "agent", task["prompt"])
            async with run.open_agent(launch.argv, env=launch.env, cwd=work) as process:
                with trio.move_on_after(patience(plan.limits)):
                    await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
    result, usage = process.result, run.trace.usage
    if run.trace.stopped is None:
        result.check()
    return {  # kept in addition to the traces
        "returncode": result.returncode,
        "stopped": run.trace.stopped,
        "seconds": round(result.duration, 3),
        "turns": len(run.trace),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "output": Redactor(plan.redact).text(result.stdout_text)[-OUTPUT_LENGTH:],
    }
