"""Real agents on a real server: each makes proof.txt with its own tool, and says that it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from tests.real_agents.cases import COMMAND, PROMPT
from triocept import AgentResult, Handler, Trace, Turn, Upstream, agents, open_upstream, serve_endpoint

from .forwarding import base_of

Executables = Callable[[str], Path]
AGENTS = ("claude_code", "codex", "mini_swe_agent", "mini_swe_agent, streaming")
STREAMING = ("claude_code", "codex", "mini_swe_agent, streaming")
"""mini-swe-agent asks for whole answers, unless it is told to speak Responses."""


@dataclass
class Ran:
    """How an agent's run went."""

    agent: str
    result: AgentResult
    trace: Trace
    work: Path

    @property
    def answered(self) -> list[Turn]:
        return [turn for turn in self.trace if turn.outcome == "answered"]

    @property
    def failed(self) -> list[Turn]:
        return [turn for turn in self.trace if turn.outcome != "answered"]


@asynccontextmanager
async def upstream_of(url: str, dialect: str, **options: Any) -> AsyncIterator[Upstream]:
    """A real server that serves the scripted model."""
    async with open_upstream(base_of(url, dialect), dialect=dialect, model="scripted", **options) as upstream:
        yield upstream


async def run_agent(agent: str, handler: Handler, folder: Path, executable: Path) -> Ran:
    """Run it to its end."""
    work = folder / "work"
    work.mkdir(parents=True)
    with trio.fail_after(200):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            name, _, streaming = agent.partition(", ")
            options = {"dialect": "openai_responses"} if streaming else {}
            launch = agents.agent(name)(
                rollout, folder / "config", PROMPT, executable=str(executable), **options
            )
            env = {"HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True", **launch.env}
            result = await rollout.run_agent(launch.argv, env=env, cwd=work)
    print(result.stdout_text[-2000:], result.stderr_text[-2000:], rollout.trace, sep="\n")
    return Ran(agent, result, rollout.trace, work)


def check_done(ran: Ran) -> None:
    """It did its task once (its command appends), by one tool call whose result came back; no call failed."""
    assert ran.failed == []
    check_done_at_last(ran)


def check_done_at_last(ran: Ran) -> None:
    """Likewise, whatever became of some calls: what was answered is one conversation, with nothing lost or doubled."""
    assert ran.result.returncode == 0
    assert (ran.work / "proof.txt").read_text() == "hello\n"
    assert ran.trace.sealed
    assert [turn.number for turn in ran.trace] == list(range(len(ran.trace)))
    first, second = ran.answered
    (call,) = first.response.tool_calls
    assert COMMAND in call.parsed().values()
    (result,) = second.request.tool_results
    assert result.id == call.id
    assert not result.is_error
    assert not first.request.tool_results
    for turn, after in pairwise(ran.answered):
        assert ran.trace.parents[after.id] == turn.id
    for turn in ran.trace:
        assert turn.request.tools
