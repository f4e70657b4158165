"""A recorded run is replayed up to a turn, and the real model behind goes on: agents unchanged, on llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_agents.cases import COMMAND
from triocept import ScriptedModel, ToolCall, Turn
from triocept.handlers import Replay
from triocept.traces import steps

from .agents import Executables, run_agent, upstream_of
from .forwarding import CHAT
from .sent import Sent

CALLS = {
    "claude_code": lambda command: ToolCall.of("Bash", command=command, description="d"),
    "codex": lambda command: ToolCall.of("exec_command", cmd=command),
    "mini_swe_agent": lambda command: ToolCall.of("bash", command=command),
}
LAST = {"mini_swe_agent": CALLS["mini_swe_agent"]("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")}


def is_forked(turn: Turn) -> bool:
    return "fork" in turn.notes["replay"]


@pytest.mark.ci
@pytest.mark.parametrize("agent", CALLS)
async def test_a_run_is_replayed_until_a_turn_and_a_real_model_goes_on(
    llama_cpp: str, agent: str, tmp_path: Path, executable_of: Executables, sent: Sent
) -> None:
    """The record calls its tool twice; the model, which has seen the first result alone, is done."""
    call, executable = CALLS[agent], executable_of(agent)
    script = ScriptedModel([call(COMMAND), call(f"{COMMAND}; ls"), LAST.get(agent, "All done.")])
    recorded = await run_agent(agent, script, tmp_path / "recorded", executable)
    assert (recorded.work / "proof.txt").read_text() == "hello\nhello\n"

    async with upstream_of(llama_cpp, CHAT, tokens="llama_cpp") as upstream:
        probes = len(sent.documents)
        replay = Replay(recorded.trace, until=1, then=upstream)
        ran = await run_agent(agent, replay, tmp_path / "forked", executable)
    assert ran.result.returncode == 0
    assert (ran.work / "proof.txt").read_text() == "hello\n", "it has run the first call, and not the second"
    assert ran.trace.sealed
    first, second = ran.trace
    assert [is_forked(turn) for turn in ran.trace] == [False, True]
    assert second.notes["replay"]["fork"] == second.notes["replay"]["turn"] == recorded.trace[1].id
    assert ran.trace.relations[second.id].kind == "continues"
    (result,) = second.request.tool_results
    assert result.id == first.response.tool_calls[0].id, "the model goes on from what was replayed"
    asked = [
        path for path, _ in sent.documents[probes:] if not path.endswith(("/tokenize", "/apply-template"))
    ]
    assert len(asked) == 1, "it was asked from the fork on"
    told = second.response
    assert "I have looked" in told.text or "COMPLETE_TASK" in told.tool_calls[0].arguments
    assert [step.trained for step in steps(ran.trace)] == [False, True], "only what it has sampled"
