"""Real agents on models that do not speak their dialect: a tool runs, streamed all the way.

The model is a second endpoint, asked by an upstream: what goes between the two is another provider's wire.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.stage import npm_agent
from tests.real_agents.test_known_agents import CASES, COMMAND, PROMPT
from triocept import Exchange, Reasoning, ToolCall, Trace, open_upstream, serve_endpoint

PAIRS = [
    ("claude code", "openai_chat"),
    ("claude code", "openai_responses"),
    ("claude code", "gemini"),
    ("codex", "anthropic_messages"),
    ("codex", "openai_chat"),
    ("codex", "gemini"),
    ("gemini-cli", "anthropic_messages"),
    ("opencode, openai_chat", "anthropic_messages"),
]


class Streaming:
    """A model that streams: it thinks, speaks, calls its tools one after the other, then says that all is done."""

    def __init__(self, calls: list[ToolCall]) -> None:
        self.calls = list(calls)

    async def __call__(self, exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            if not exchange.request.tools:
                await stream.send("A title")
            elif self.calls:
                await stream.send(Reasoning("Let me see."))
                await stream.send("I write ")
                await stream.send("it.")
                await stream.send(self.calls.pop(0))
            else:
                await stream.send("All done.")


@pytest.mark.parametrize(("name", "provider"), PAIRS)
async def test_an_agent_runs_a_tool_on_a_model_of_another_dialect(
    name: str, provider: str, tmp_path: Path, agents_dir: Path
) -> None:
    prepare, (_, package, command), calls, dialect = CASES[name]
    executable = npm_agent(agents_dir, package, command)
    work = tmp_path / "work"
    work.mkdir()
    with trio.fail_after(180):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(Streaming(calls)) as model:
            base, key = model.base_url(provider), model.api_key
            async with open_upstream(base, dialect=provider, api_key=key, model="the-real-one") as upstream:
                async with endpoint.open_rollout(upstream) as rollout:
                    launch = prepare(rollout, tmp_path / "config", PROMPT, executable=str(executable))
                    env = {"HOME": str(tmp_path), **launch.env}
                    result = await rollout.run_agent(launch.argv, env=env, cwd=work)
    print(result.stdout_text[-3000:], result.stderr_text[-3000:], rollout.trace)
    assert result.returncode == 0
    assert (work / "proof.txt").read_text() == "hello\n"
    assert {turn.dialect for turn in rollout.trace} == {dialect}
    assert {turn.dialect for turn in model.trace} == {provider}
    assert {turn.request.model for turn in model.trace} == {"the-real-one"}
    assert len(rollout.trace) == len(model.trace)
    check(rollout.trace)
    check(model.trace)


def check(trace: Trace) -> None:
    """Every turn was answered, and streamed; the tool was called once, and its result came back."""
    assert {turn.outcome for turn in trace} == {"answered"}
    main = [turn for turn in trace if turn.request.tools]
    assert all(turn.request.stream for turn in main)
    made: list[Any] = [call for turn in main for call in (turn.response.tool_calls if turn.response else ())]
    assert len(made) == 1
    assert COMMAND in made[0].arguments
    for _, after in pairwise(main):
        assert [result.id for result in after.request.tool_results] == [made[0].id]
