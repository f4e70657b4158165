"""Each agent at the end of its budget: a model that wants more and more, and a limit of two turns (a title is one)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.real_agents.cases import Case, cases
from tests.real_agents.play import Calls, play
from triocept import Limits

Executables = Callable[[str], Path]

ASKS_ONCE_MORE = {"claude_code": 2, "pi": 2, "copilot": 2}
"""Requests that are refused, at most; all others take the first 404 as final. Claude Code 2.1.197 asks again, whole; so
does Copilot 1.0.102 over its websocket; and pi 0.73 now and then."""
EXIT_CODES = {"claude_code": {1}, "codex": {1}}
"""Of those that were measured."""


@cases("aider")  # it has no tools, and asks once
async def test_at_its_limit_of_turns_it_ends_at_once(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    endless = replace(case, replies=case.replies[:1] * 10)
    played = await play(endless, executable_of(case.agent), tmp_path, limits=Limits(turns=2))
    assert [turn.outcome for turn in played.trace] == ["answered", "answered", "refused"]
    assert played.trace.stopped == "the limit of 2 turns is reached"
    refused = calls.main + calls.side - 2
    assert 1 <= refused <= ASKS_ONCE_MORE.get(case.agent, 1 + calls.side)
    if case.agent in EXIT_CODES:
        assert played.result.returncode in EXIT_CODES[case.agent]
    done = [turn for turn in played.main if turn.outcome == "answered"]
    assert (played.work / "proof.txt").read_text() == "hello\n" * len(done)
