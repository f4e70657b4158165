"""The known agents, made ready by `triocept.agents`, in every dialect that they speak: a tool runs, a file appears."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.stage import npm_agent, pip_agent
from triocept import Exchange, Trace, agents, serve_endpoint
from triocept._canonical.content import ToolCall

PROMPT = "Write hello into proof.txt with a shell command."
COMMAND = "echo hello > proof.txt"

CASES: dict[str, tuple[Callable[..., agents.Launch], tuple[str, str, str], list[ToolCall], str]] = {
    # name: how it is made ready, where its executable comes from, its tool calls, the dialect it speaks
    "claude code": (
        agents.claude_code,
        ("npm", "@anthropic-ai/claude-code", "claude"),
        [ToolCall.of("Bash", command=COMMAND, description="write the proof")],
        "anthropic_messages",
    ),
    "codex": (
        agents.codex,
        ("npm", "@openai/codex", "codex"),
        [ToolCall.of("exec_command", cmd=COMMAND)],
        "openai_responses",
    ),
    "codex that tries a websocket": (
        partial(agents.codex, websocket=True),
        ("npm", "@openai/codex", "codex"),
        [ToolCall.of("exec_command", cmd=COMMAND)],
        "openai_responses",
    ),
    **{
        f"opencode, {dialect}": (
            partial(agents.opencode, dialect=dialect),
            ("npm", "opencode-ai", "opencode"),
            [ToolCall.of("bash", command=COMMAND, description="write the proof")],
            dialect,
        )
        for dialect in ("openai_chat", "openai_responses", "anthropic_messages")
    },
    "gemini-cli": (
        agents.gemini_cli,
        ("npm", "@google/gemini-cli", "gemini"),
        [ToolCall.of("run_shell_command", command=COMMAND)],
        "gemini",
    ),
    "mini-swe-agent": (
        agents.mini_swe_agent,
        ("pip", "mini-swe-agent", "mini"),
        [
            ToolCall.of("bash", command=COMMAND),
            ToolCall.of("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
        ],
        "openai_chat",
    ),
}


class Model:
    """Calls the tools one after the other, then says that all is done. Side calls get a title."""

    def __init__(self, calls: list[ToolCall]) -> None:
        self._calls = list(calls)

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.conversation.kind == "side":
            await exchange.respond("A title")
        elif self._calls:
            await exchange.respond(self._calls.pop(0))
        else:
            await exchange.respond("All done.")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_known_agent_runs_a_tool_and_finishes(case: Any, tmp_path: Path, agents_dir: Path) -> None:
    prepare, (registry, package, command), calls, dialect = case
    executable = (npm_agent if registry == "npm" else pip_agent)(agents_dir, package, command)
    work = tmp_path / "work"
    work.mkdir()
    with trio.fail_after(180):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(Model(calls)) as rollout:
            launch = prepare(rollout, tmp_path / "config", PROMPT, executable=str(executable))
            env = {"HOME": str(tmp_path), **launch.env}
            result = await rollout.run_agent(launch.argv, env=env, cwd=work)
    print(result.stdout_text[-3000:], result.stderr_text[-3000:], rollout.trace)
    assert result.returncode == 0
    assert (work / "proof.txt").read_text() == "hello\n"
    assert {turn.dialect for turn in rollout.trace} == {dialect}
    check_turns(rollout.trace, calls)


def check_turns(trace: Trace, calls: list[ToolCall]) -> None:
    """The trace holds exactly the expected turns: each tool call once, its result in the turn behind it."""
    assert {turn.outcome for turn in trace} == {"answered"}
    main = [turn for turn in trace if trace.conversations[turn.id].kind == "main"]
    assert all(trace.conversations[turn.id].kind == "side" for turn in trace if turn not in main)
    made = [call for turn in main for call in (turn.response.tool_calls if turn.response else ())]
    assert [(call.name, call.parsed()) for call in made] == [(call.name, call.parsed()) for call in calls]
    for turn, after in pairwise(main):
        assert turn.response is not None
        (call,) = turn.response.tool_calls
        assert [result.id for result in after.request.tool_results] == [call.id]
        assert trace.parents[after.id] == turn.id


def test_the_executables_are_there() -> None:
    assert shutil.which("npm"), "real agents come from the npm registry"
