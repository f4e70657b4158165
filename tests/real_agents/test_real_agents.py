"""Each real agent, unchanged, runs a tool (a file appears) and finishes, and the trace holds exactly its turns."""

from __future__ import annotations

from pathlib import Path

from tests.real_agents.stage import Stage, npm_agent, pip_agent, version_of

PROMPT = "Write hello into proof.txt with a shell command."


def test_claude_code_runs_a_tool_and_finishes(stage: Stage, agents_dir: Path) -> None:
    claude = npm_agent(agents_dir, "@anthropic-ai/claude-code", "claude")
    version_of(claude, "--version")
    played = stage.play(
        """
from triocept import ToolCall
replies = [ToolCall.of("Bash", command="echo hello > proof.txt", description="write the proof"), "All done."]
""",
        [claude, "-p", PROMPT, "--dangerously-skip-permissions"],
        IS_SANDBOX="1",
    )
    assert played.returncode == 0, played.stderr
    assert (played.work / "proof.txt").read_text() == "hello\n"
    assert "All done." in played.stdout
    first, second = played.trace
    assert [turn.dialect for turn in played.trace] == ["anthropic_messages"] * 2
    assert [turn.outcome for turn in played.trace] == ["answered"] * 2
    assert first.request.stream
    assert "Bash" in [tool.name for tool in first.request.tools]
    assert any(PROMPT in message.text for message in first.request.messages)
    assert first.response is not None
    (call,) = first.response.tool_calls
    (result,) = second.request.tool_results
    assert result.id == call.id
    assert not result.is_error
    assert played.trace.parents == {first.id: None, second.id: first.id}
    assert played.trace.sealed


def test_mini_swe_agent_runs_a_tool_and_finishes(stage: Stage, agents_dir: Path) -> None:
    mini = pip_agent(agents_dir, "mini-swe-agent", "mini")
    played = stage.play(
        """
from triocept import ToolCall
replies = [
    ToolCall.of("bash", command="echo hello > proof.txt"),
    ToolCall.of("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
]
""",
        [mini, "-y", "--exit-immediately", "-t", PROMPT, "-m", "openai/any-model", "-c", "mini.yaml"],
        MSWEA_CONFIGURED="true",
        MSWEA_COST_TRACKING="ignore_errors",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert played.returncode == 0, played.stderr
    assert (played.work / "proof.txt").read_text() == "hello\n"
    first, second = played.trace
    assert [turn.dialect for turn in played.trace] == ["openai_chat"] * 2
    assert [turn.outcome for turn in played.trace] == ["answered"] * 2
    assert not first.request.stream
    assert [tool.name for tool in first.request.tools] == ["bash"]
    assert first.response is not None
    (call,) = first.response.tool_calls
    (result,) = second.request.tool_results
    assert result.id == call.id
    assert played.trace.parents == {first.id: None, second.id: first.id}
    assert played.trace.sealed
