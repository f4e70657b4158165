"""Real agents are recorded once, and replayed with no model behind: no miss, and the same trace."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.cases import CASES, PROMPT, Case, cases
from tests.real_agents.play import Model
from triocept import (
    Exchange,
    Handler,
    Message,
    Response,
    ScriptedModel,
    ToolCall,
    ToolResult,
    Trace,
    Usage,
    serve_endpoint,
)
from triocept.handlers import Replay
from triocept.traces import TurnDiff

AGAIN = int(os.environ.get("TRIOCEPT_REPLAYS", "2"))
"""How often each is replayed; ten times were tried, idle and beside three busy programs."""


async def run(
    case: Case, executable: Path, folder: Path, handler: Handler, env: dict[str, str] | None = None
) -> Trace:
    """The agent's run in a directory of its own, to a good end."""
    work = folder / "work"
    work.mkdir(parents=True)
    with trio.fail_after(120):
        async with serve_endpoint(**case.endpoint) as endpoint, endpoint.open_rollout(handler) as rollout:
            launch = case.prepare(rollout, folder / "config", PROMPT, executable=str(executable))
            environ = {"HOME": str(folder), **launch.env, **(env or {})}
            result = await rollout.run_agent(launch.argv, env=environ, cwd=work)
    print(result.stdout_text[-2000:], result.stderr_text[-2000:], rollout.trace, sep="\n")
    assert result.returncode == 0
    return rollout.trace


def told(trace: Trace) -> Counter[Any]:
    """What each kind of conversation was told, whatever came first: text, calls, usage, why it ended."""
    conversations = trace.conversations
    return Counter(
        (
            conversations[turn.id].kind,
            turn.outcome,
            turn.response and turn.response.text,
            tuple((call.name, call.id) for call in turn.response.tool_calls) if turn.response else (),
            turn.response
            and (turn.response.stop_reason, turn.response.usage and turn.response.usage.input_tokens),
        )
        for turn in trace
    )


def check_replayed(again: Trace, trace: Trace) -> None:
    """Each recorded turn was given once, and the agent waited for nothing that did not come."""
    assert told(again) == told(trace)
    notes = [turn.notes["replay"] for turn in again]
    assert {note["turn"] for note in notes} == {turn.id for turn in trace}
    assert [note for note in notes if "not_waited_for" in note] == []
    for turn in again:
        diff = trace.diff(turn.notes["replay"]["turn"], turn)
        assert unexplained(diff) == ([], [], {}), "the same trace, by `trace.diff`"


MADE_UP = re.compile(
    r"(?:recorded|replayed\d?|forked)\b|\btoolu_\w+|\bcall_\w+|\bses_\w+|\b[0-9a-f]{8}-[0-9a-f]{4}-[-0-9a-f]{22}\b"
    r"|\b[0-9a-f]{16,}\b|(?<=<duration_ms>)\d+"
    r"|\b\d{4}-\d\d-\d\d(?:T[\d:.+]+Z?)?\b|\b[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4}\b"
)
"""What is another in each run, and says nothing: its folder, ids, how long a sub-agent took, the date."""
SETTINGS = {"dialect", "user", "extra.prompt_cache_key", "extra.client_metadata", "extra.store"}
"""Likewise: Claude Code's user and Codex's metadata name the session; `store` is of one of opencode's dialects."""


def unexplained(diff: TurnDiff) -> tuple[list[str], list[str], dict[str, Any]]:
    """What differs by `trace.diff`, before and after, but for what a tool found in the world, and what is made up."""
    old = [said(each.old) for each in diff.messages if each.kind != "same" and each.old is not None]
    new = [said(each.new) for each in diff.messages if each.kind != "same" and each.new is not None]
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    settings = {path: values for path, values in diff.settings.items() if path not in SETTINGS}
    return list(gone), list(come), settings


def said(message: Message) -> str:
    """All that it says but for the results of tools."""
    words = [
        f"{part.name}({part.arguments})" if isinstance(part, ToolCall) else getattr(part, "text", repr(part))
        for part in message.content
        if not isinstance(part, ToolResult)
    ]
    return MADE_UP.sub("…", "\n".join(words))


@cases()
async def test_an_agent_is_replayed_elsewhere(
    case: Case, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    executable = executable_of(case.agent)
    trace = await run(case, executable, tmp_path / "recorded", Model(case.replies))
    replay = Replay(trace)
    for number in range(AGAIN):
        folder = tmp_path / f"replayed{number}"
        check_replayed(await run(case, executable, folder, replay), trace)
        assert (folder / "work" / "proof.txt").read_text() == "hello\n"


OPENCODE = [case for case in CASES if case.agent == "opencode"]


@pytest.mark.parametrize("second", OPENCODE, ids=lambda case: case.speaks)
@pytest.mark.parametrize("first", OPENCODE, ids=lambda case: case.speaks)
async def test_what_opencode_did_in_one_dialect_it_does_in_another(
    first: Case, second: Case, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    trace = await run(first, executable_of("opencode"), tmp_path / "recorded", Model(first.replies))
    again = await run(second, executable_of("opencode"), tmp_path / "replayed", Replay(trace))
    check_replayed(again, trace)
    assert {turn.dialect for turn in again} == {second.speaks}


# Claude Code, its sub-agents beside it

CLAUDE = next(case for case in CASES if case.agent == "claude_code")
SMALL_WINDOW = {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "100000"}


def bash(command: str) -> ToolCall:
    return ToolCall.of("Bash", command=command, description="d")


def helper(word: str) -> ToolCall:
    prompt = f"SUBTASK {word}: count the files here with ls."
    return ToolCall.of("Agent", description="count", prompt=prompt, subagent_type="general-purpose")


class Team:
    """Begins two sub-agents, works on, and is compacted meanwhile; `slow`: seconds of each answer to a sub-agent."""

    def __init__(self, folder: Path, slow: float) -> None:
        proof = folder / "work" / "proof.txt"
        full = Usage(input_tokens=185_000, output_tokens=50)
        self.main: list[Response] = [
            Response.of("Two helpers.", helper("one"), helper("two")),
            Response((bash(f"echo hello > {proof}; sleep 0.3; date"),), usage=full),
            Response.of(bash(f"cat {proof}; sleep 0.2")),
            Response.of(bash("ls -la; sleep 0.2")),
        ]
        self.slow = slow
        self.asked: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        conversation = exchange.conversation
        if conversation.kind == "sub_agent":
            self.asked[conversation.id] += 1
            number = list(self.asked).index(conversation.id)
            await trio.sleep(self.slow * (number + 1))
            first = self.asked[conversation.id] == 1
            await exchange.respond(bash("ls | wc -l") if first else f"There are {number} files here.")
        elif exchange.request.last is not None and "<summary>" in exchange.request.last.text[-20_000:]:
            await exchange.respond("<analysis>a</analysis><summary>The task: write proof.txt.</summary>")
        else:
            await trio.sleep(0.05)
            await exchange.respond(self.main.pop(0) if self.main else "All done.")


@pytest.mark.parametrize("slow", [0.05, 0.15, 0.3])
async def test_sub_agents_beside_a_compacted_conversation_are_replayed_in_their_order(
    slow: float, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    executable = executable_of("claude_code_newer")
    folder = tmp_path / "recorded"
    trace = await run(CLAUDE, executable, folder, Team(folder, slow), SMALL_WINDOW)
    kinds = Counter(conversation.kind for conversation in trace.conversations.values())
    assert kinds["sub_agent"] == 4, "two calls of each sub-agent"
    for number in range(AGAIN):
        folder = tmp_path / f"replayed{number}"
        again = await run(CLAUDE, executable, folder, Replay(trace), SMALL_WINDOW)
        check_replayed(again, trace)
        assert (folder / "work" / "proof.txt").read_text() == "hello\n"


async def test_a_fork_of_the_main_conversation_leaves_its_sub_agents_to_the_record(
    tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    executable = executable_of("claude_code_newer")
    folder = tmp_path / "recorded"
    trace = await run(CLAUDE, executable, folder, Team(folder, 0.3))
    folder = tmp_path / "forked"
    fork = folder / "work" / "fork.txt"
    other = ScriptedModel([bash(f"echo forked > {fork}; sleep 1.5"), *["Otherwise."] * 3])
    again = await run(CLAUDE, executable, folder, Replay(trace, until=1, then=other))
    assert fork.read_text() == "forked\n"
    assert not (folder / "work" / "proof.txt").exists()
    conversations, notes = again.conversations, {turn.id: turn.notes["replay"] for turn in again}
    forked = [turn for turn in again if "fork" in notes[turn.id]]
    assert {conversations[turn.id].kind for turn in forked} == {"main"}
    main = [turn.id for turn in trace if trace.conversations[turn.id].kind == "main"]
    assert notes[forked[0].id]["turn"] == notes[forked[0].id]["fork"] == main[1]
    replayed = [turn for turn in again if "fork" not in notes[turn.id]]
    assert Counter(conversations[turn.id].kind for turn in replayed) == {"main": 1, "sub_agent": 4}
