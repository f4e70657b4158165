"""Real agents on models that do not speak their dialect: a tool runs, streamed all the way.

The model is a second endpoint, asked by an upstream: what goes between the two is another provider's wire.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.cases import CASES, COMMAND, PROMPT, Reply
from triocept import Exchange, Trace, open_upstream, serve_endpoint
from triocept.types import Reasoning

BY_NAME = {case.name: case for case in CASES}
PAIRS = [
    ("claude_code", "openai_chat"),
    ("claude_code", "openai_responses"),
    ("claude_code", "gemini"),
    ("codex", "anthropic_messages"),
    ("codex", "openai_chat"),
    ("codex", "gemini"),
    ("codex-websocket", "anthropic_messages"),
    ("gemini_cli", "anthropic_messages"),
    ("opencode-openai_chat", "anthropic_messages"),
]


class Streaming:
    """A model that streams: it thinks, speaks, calls its tools one after the other, then says that all is done."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = list(replies)

    async def __call__(self, exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            if not exchange.request.tools:
                await stream.send("A title")
            elif isinstance(reply := self.replies.pop(0), str):
                await stream.send(reply)
            else:
                await stream.send(Reasoning("Let me see."))
                await stream.send("I write ")
                await stream.send("it.")
                await stream.send(reply)


@pytest.mark.parametrize(("name", "provider"), PAIRS)
async def test_an_agent_runs_a_tool_on_a_model_of_another_dialect(
    name: str, provider: str, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    case = BY_NAME[name]
    work = tmp_path / "work"
    work.mkdir()
    with trio.fail_after(180):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(Streaming(case.replies)) as model:
            base, key = model.base_url(provider), model.api_key
            async with open_upstream(base, dialect=provider, api_key=key, model="the-real-one") as upstream:
                async with endpoint.open_rollout(upstream) as rollout:
                    executable = str(executable_of(case.agent))
                    launch = case.prepare(rollout, tmp_path / "config", PROMPT, executable=executable)
                    env = {"HOME": str(tmp_path), **launch.env}
                    result = await rollout.run_agent(launch.argv, env=env, cwd=work)
    print(result.stdout_text[-3000:], result.stderr_text[-3000:], rollout.trace)
    assert result.returncode == 0
    assert (work / "proof.txt").read_text() == "hello\n"
    assert {turn.dialect for turn in rollout.trace} == {case.speaks}
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
