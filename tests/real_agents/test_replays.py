"""Real agents are recorded once, and replayed with no model behind: no miss, and the same trace.

Some are replayed in new directories, others where they were recorded: in a git repository that their task has changed,
and that their record is committed to. `TRIOCEPT_HOGS=3 TRIOCEPT_REPLAYS=5` replays each five times, beside three busy
programs; `TRIOCEPT_RECORDINGS=2` records each run of Claude Code with sub-agents twice.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import pytest
import trio

from tests.real_agents.cases import CASES, NEWER, PROMPT, Case, cases
from tests.real_agents.play import Model
from triocept import (
    Exchange,
    Handler,
    JSONLRecorder,
    Message,
    Response,
    ScriptedModel,
    ToolCall,
    ToolResult,
    Trace,
    Usage,
    read_traces,
    serve_endpoint,
)
from triocept.handlers import Replay
from triocept.traces import TurnDiff

AGAIN = int(os.environ.get("TRIOCEPT_REPLAYS", "2"))
"""How often each is replayed; ten times were tried, idle and beside three busy programs."""
RECORDINGS = int(os.environ.get("TRIOCEPT_RECORDINGS", "1"))
"""How often each run with sub-agents is recorded."""

pytestmark = [
    pytest.mark.usefixtures("hogs"),
    pytest.mark.timeout(1800),
]  # several runs each, of some 120 s at most


async def run(
    case: Case,
    executable: Path,
    folder: Path,
    handler: Handler,
    env: dict[str, str] | None = None,
    record: Path | None = None,
) -> Trace:
    """Run the agent in `work` of this directory to a good end, its configuration elsewhere as of `triocept run`."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    recorder = JSONLRecorder(record) if record is not None else None
    with trio.fail_after(120), TemporaryDirectory(prefix="triocept-") as config:
        async with (
            serve_endpoint(recorder=recorder, **case.endpoint) as endpoint,
            endpoint.open_rollout(handler) as rollout,
        ):
            launch = case.prepare(rollout, Path(config), PROMPT, executable=str(executable))
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


def check_given(again: Trace, trace: Trace) -> None:
    """Each recorded turn was given once, and the agent waited for nothing that did not come."""
    assert told(again) == told(trace)
    notes = [turn.notes["replay"] for turn in again]
    assert {note["turn"] for note in notes} == {turn.id for turn in trace}
    assert [note for note in notes if "not_waited_for" in note] == []


def check_replayed(again: Trace, trace: Trace) -> None:
    """The same, and nothing else differs than what is made up in each run."""
    check_given(again, trace)
    for turn in again:
        diff = trace.diff(turn.notes["replay"]["turn"], turn)
        assert unexplained(diff) == ([], [], {}), "the same trace, by `trace.diff`"


MADE_UP = re.compile(
    r"(?:recorded|replayed\d?|forked)\b|triocept-[\w-]{8}|\btoolu_\w+|\bcall_\w+|\bses_\w+|\b[0-9a-f]{8}-[0-9a-f]{4}-[-0-9a-f]{22}\b"
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


FIRST = {case.agent: case for case in reversed(CASES)}
"""The first case of each agent."""


def git(work: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", *who, *arguments], cwd=work, check=True, capture_output=True, timeout=60)


def commit(work: Path, message: str) -> None:
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", message)


@pytest.mark.parametrize("agent", [agent for agent in (*FIRST, *NEWER) if agent != "aider"])
async def test_an_agent_is_replayed_in_a_repository_that_it_has_changed(
    agent: str, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    """The first replay finds the changes in the working directory, the others find them committed, with the record.

    aider 0.86.2 puts the text of each existing file that the prompt names into its call, so its second call differs.
    """
    case, executable = FIRST[agent.removesuffix("_newer")], executable_of(agent)
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    (work / "src" / "a.txt").write_text("a\n")
    git(work, "init", "-q")
    commit(work, "first")
    record = work / "run.jsonl"
    await run(case, executable, tmp_path, Model(case.replies), record=record)
    (trace,) = read_traces(record)
    replay = Replay(trace)
    for number in range(AGAIN):
        check_given(await run(case, executable, tmp_path, replay), trace)
        assert (work / "proof.txt").exists()
        if number == 0:
            commit(work, "the record, and what the run has made")


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


Ends: TypeAlias = Literal["before", "near", "within", "behind"] | float
"""When the sub-agents end: before the summary is asked for, at about that time, while it is written, after the agent
has gone on from it; or with the first after so many seconds, and the second after twice as many."""


class Team:
    """Begins two sub-agents, works on, and is compacted meanwhile."""

    def __init__(self, folder: Path, ends: Ends, *, alike: bool = False) -> None:
        proof = folder / "work" / "proof.txt"
        full = Usage(input_tokens=185_000, output_tokens=50)
        work = 0.3 if isinstance(ends, float) else 0.8
        self.main: list[Response] = [
            Response.of("Two helpers.", helper("one"), helper("two")),
            Response((bash(f"echo hello > {proof}; sleep {work}; date"),), usage=full),
            Response.of(bash(f"cat {proof}; sleep 0.2")),
            Response.of(bash("ls -la; sleep 0.2")),
        ]
        self.ends = ends
        self.alike = alike
        self.asked: Counter[str] = Counter()
        self.both_work, self.is_full, self.is_asked, self.goes_on = (trio.Event() for _ in range(4))
        self.both_ended = trio.Event()
        self.ended = 0

    async def __call__(self, exchange: Exchange) -> None:
        last = exchange.request.last
        if exchange.conversation.kind == "sub_agent":
            await self.sub_agent(exchange)
        elif last is not None and "<summary>" in last.text[-20_000:]:
            self.is_asked.set()
            if self.ends == "within":
                await self.both_ended.wait()
                await trio.sleep(0.2)
            await exchange.respond("<analysis>a</analysis><summary>The task: write proof.txt.</summary>")
        else:
            await self.go_on(exchange)

    async def go_on(self, exchange: Exchange) -> None:
        """The main conversation."""
        if self.is_asked.is_set():
            self.goes_on.set()
        answer = self.main.pop(0) if self.main else Response.of("All done.")
        await trio.sleep(0.05)
        is_full = answer.usage is not None and answer.usage.input_tokens == 185_000
        if is_full and not isinstance(self.ends, float):
            await self.both_work.wait()
        await exchange.respond(answer)
        if is_full:
            self.is_full.set()

    async def sub_agent(self, exchange: Exchange) -> None:
        name = exchange.conversation.id
        self.asked[name] += 1
        number = list(self.asked).index(name)
        if sorted(self.asked.values()) == [2, 2]:
            self.both_work.set()
        if isinstance(self.ends, float):
            await trio.sleep(self.ends * (number + 1))
        elif self.asked[name] == 2:
            await self.until_end()
        if self.asked[name] == 1:
            await exchange.respond(bash("ls | wc -l"))
        else:
            await exchange.respond(f"There are {0 if self.alike else number} files here.")
            self.ended += 1
            if self.ended == 2:
                self.both_ended.set()

    async def until_end(self) -> None:
        match self.ends:
            case "before":
                await self.is_full.wait()
                await trio.sleep(0.2)
            case "near":
                await self.is_full.wait()
                await trio.sleep(0.85)  # the command of that answer takes 0.8
            case "within":
                await self.is_asked.wait()
                await trio.sleep(0.1)
            case _:
                await self.goes_on.wait()
                await trio.sleep(0.1)


@pytest.mark.parametrize("number", range(RECORDINGS))
@pytest.mark.parametrize(("ends", "alike"), [
    *((ends, alike) for ends in ("before", "near") for alike in (False, True)),
    *(("within", False), ("behind", False), (0.05, False), (0.15, False), (0.3, False), (0.3, True)),
])  # fmt: skip
async def test_sub_agents_beside_a_compacted_conversation_are_replayed_in_their_order(
    ends: Ends, alike: bool, number: int, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    executable = executable_of("claude_code_newer")
    folder = tmp_path / "recorded"
    trace = await run(CLAUDE, executable, folder, Team(folder, ends, alike=alike), SMALL_WINDOW)
    kinds = Counter(conversation.kind for conversation in trace.conversations.values())
    assert kinds["sub_agent"] == 4, "two calls of each sub-agent"
    if ends == "before":
        (summary,) = [each.turn for each in trace.relations.values() if each.kind == "compaction"]
        (asked,) = [turn.started_at for turn in trace if turn.id == summary]
        ended = [
            turn.started_at + turn.duration
            for turn in trace
            if trace.conversations[turn.id].kind == "sub_agent"
        ]
        assert max(ended) < asked
    for again in range(AGAIN):
        folder = tmp_path / f"replayed{again}"
        replayed = await run(CLAUDE, executable, folder, Replay(trace), SMALL_WINDOW)
        check_replayed(replayed, trace)
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
