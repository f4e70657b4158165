"""Agents that need nothing but the environment, as plain commands of `triocept run`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real_agents.cases import PROMPT
from tests.real_agents.stage import Stage

Executables = Callable[[str], Path]


@pytest.mark.ci
def test_claude_code_runs_a_tool_and_finishes(stage: Stage, executable_of: Executables) -> None:
    run = stage.run(
        """
from triocept import ToolCall
replies = [ToolCall.of("Bash", command="echo hello > proof.txt", description="write the proof"), "All done."]
""",
        [executable_of("claude_code"), "-p", PROMPT, "--dangerously-skip-permissions"],
        IS_SANDBOX="1",
    )
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    assert "All done." in run.stdout
    first, second = run.trace
    assert [turn.dialect for turn in run.trace] == ["anthropic_messages"] * 2
    assert [turn.outcome for turn in run.trace] == ["answered"] * 2
    assert first.request.stream
    assert "Bash" in [tool.name for tool in first.request.tools]
    assert any(PROMPT in message.text for message in first.request.messages)
    (call,) = first.response.tool_calls
    (result,) = second.request.tool_results
    assert result.id == call.id
    assert not result.is_error
    assert run.trace.parents == {first.id: None, second.id: first.id}
    assert run.trace.sealed


CLAUDE_AGENT_SDK = """
import asyncio, sys
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

async def main():
    async for message in query(prompt=sys.argv[1], options=ClaudeAgentOptions(permission_mode="bypassPermissions")):
        if isinstance(message, ResultMessage):
            print(message.result)

asyncio.run(main())
"""


def test_claude_agent_sdk_runs_a_tool_and_finishes(stage: Stage, executable_of: Executables) -> None:
    """It brings a Claude Code of its own."""
    run = stage.run(
        """
from triocept import ToolCall
replies = [ToolCall.of("Bash", command="echo hello > proof.txt", description="write the proof"), "All done."]
""",
        [executable_of("claude_agent_sdk"), "-c", CLAUDE_AGENT_SDK, PROMPT],
        IS_SANDBOX="1",
    )
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    assert "All done." in run.stdout
    first, second = run.trace
    assert [turn.dialect for turn in run.trace] == ["anthropic_messages"] * 2
    assert [turn.outcome for turn in run.trace] == ["answered"] * 2
    assert run.trace.parents == {first.id: None, second.id: first.id}


def test_mini_swe_agent_runs_a_tool_and_finishes(stage: Stage, executable_of: Executables) -> None:
    run = stage.run(
        """
from triocept import ToolCall
replies = [
    ToolCall.of("bash", command="echo hello > proof.txt"),
    ToolCall.of("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
]
""",
        [
            *(executable_of("mini_swe_agent"), "-y", "--exit-immediately"),
            *("-t", PROMPT, "-m", "openai/any-model", "-c", "mini.yaml"),
        ],
        MSWEA_CONFIGURED="true",
        MSWEA_COST_TRACKING="ignore_errors",
    )
    assert run.returncode == 0, run.stderr
    assert (run.work / "proof.txt").read_text() == "hello\n"
    first, second = run.trace
    assert [turn.dialect for turn in run.trace] == ["openai_chat"] * 2
    assert [turn.outcome for turn in run.trace] == ["answered"] * 2
    assert not first.request.stream
    assert [tool.name for tool in first.request.tools] == ["bash"]
    (call,) = first.response.tool_calls
    (result,) = second.request.tool_results
    assert result.id == call.id
    assert run.trace.parents == {first.id: None, second.id: first.id}
    assert run.trace.sealed
