"""The time in which a call waited for decisions about its tool calls."""

from __future__ import annotations

import msgspec
import pytest

from tests.trace.telling import said, tell
from triocept import Response, ToolCall, Trace
from triocept._cli.live import Live
from triocept._trace.waits import waited
from triocept.traces import Decided, Draft


def answer(*ids: str) -> Response:
    return Response(tuple(ToolCall("Bash", "{}", id=id_) for id_ in ids))


def decided(call: str, seconds: float) -> Decided:
    return Decided(call=call, tool="Bash", kind="approve", seconds=seconds)


def test_the_longest_decision_of_each_answer_counts_and_none_about_calls_of_earlier_turns() -> None:
    draft = Draft(why="approve", counted=True, response=answer("a", "b"), started=0, duration=1)
    decisions = (decided("a", 3), decided("b", 5), decided("a", 7), decided("earlier", 100))
    turn = tell(Trace("r"), said("user: x"), answer("a"), decisions=decisions, drafts=(draft,))
    assert waited(msgspec.structs.replace(turn, duration=60)) == 5 + 7
    assert waited(msgspec.structs.replace(turn, duration=10)) == 10, "never more than the turn itself"
    assert waited(msgspec.structs.replace(turn, duration=60, decisions=())) == 0


async def test_the_line_of_a_turn_leaves_out_the_time_for_decisions(
    capfd: pytest.CaptureFixture[str],
) -> None:
    turn = tell(Trace("r"), said("user: x"), answer("a"), decisions=(decided("a", 40),))
    await Live().record(msgspec.structs.replace(turn, duration=42))
    assert " 2000 ms" in capfd.readouterr().err
