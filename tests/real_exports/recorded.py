"""Runs of real agents whose model says what is written down here, by whose call it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import trio

from tests.real_agents.cases import SOURCES
from tests.real_agents.installed import agents_folder, installed
from triocept import Exchange, JSONLRecorder, Response, ToolCall, Usage, serve_endpoint
from triocept.agents import agent

Said: TypeAlias = "str | ToolCall | Response"


def bash(command: str) -> ToolCall:
    return ToolCall.of("Bash", command=command, description="d")


def helper(name: str, prompt: str) -> ToolCall:
    return ToolCall.of("Agent", description=name, prompt=prompt)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of an agent."""

    agent: str
    main: Sequence[Said]
    """What its model says to the main conversation."""
    helpers: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    """By a word of its task: what it says to a sub-agent."""
    env: Mapping[str, str] = field(default_factory=dict)
    record_wire: bool = False
    sub_agents: int = 0
    compactions: int = 0


HELPERS: Mapping[str, Sequence[Said]] = {
    "SUBTASK-A": [bash("ls | wc -l"), "There are 0 files."],
    "SUBTASK-B": [bash("date"), bash("pwd"), "It is late."],
}
TWO_HELPERS = Response.of(
    "Two helpers.",
    helper("count files", "SUBTASK-A: count the files in this folder"),
    helper("tell time", "SUBTASK-B: tell the time and the place"),
)
RUNS = {
    "claude_code": Run(agent="claude_code", main=[bash("echo hello > proof.txt"), "All done."],
     record_wire=True),
    "claude_code_with_sub_agents": Run(agent="claude_code",
     main=[TWO_HELPERS, bash("echo hello > proof.txt"), "Waiting.", "All done.", "Really done."],
     helpers=HELPERS, sub_agents=2),
    "claude_code_with_a_compaction": Run(
        agent="claude_code",
        main=[
            TWO_HELPERS,
            # said to be over the window, so that the agent compacts what it has said so far
            Response((bash("echo hello > proof.txt"),), usage=Usage(input_tokens=185_000, output_tokens=50)),
            "<analysis>short</analysis><summary>1. The user wants hello in proof.txt. 2. It was written.</summary>",
            bash("cat proof.txt"),
            *("All done.", "Really done.", "Yes."),
        ],
        helpers=HELPERS,
        env={"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "100000"},
        sub_agents=2,
        compactions=1,
    ),
    "codex_with_a_sub_agent": Run(agent="codex",
     main=[ToolCall.of("spawn_agent", message="SUBTASK-A: count the files in this folder"),
      ToolCall.of("exec_command", cmd="sleep 1; echo hello > proof.txt"), "All done."],
     helpers={"SUBTASK-A": [ToolCall.of("exec_command", cmd="ls | wc -l"), "There are 0 files."]},
     sub_agents=1),
    "opencode_with_a_sub_agent": Run(agent="opencode",
     main=[ToolCall.of("task", description="count files", prompt="SUBTASK-A: count the files in this folder",
       subagent_type="general"), ToolCall.of("bash", command="echo hello > proof.txt", description="d"),
      "All done."],
     helpers={
      "SUBTASK-A": [ToolCall.of("bash", command="ls | wc -l", description="d"), "There are 0 files."]},
     sub_agents=1),
}  # fmt: skip
PATIENCE = 200
"""Seconds for a run, which takes three."""


class _Model:
    """Says what a run has for whoever asks."""

    def __init__(self, run: Run) -> None:
        self._main = list(run.main)
        self._helpers = run.helpers
        self._left: dict[str, list[Said]] = {}
        """By the conversation of a sub-agent."""

    async def __call__(self, exchange: Exchange) -> None:
        said = self._of(exchange)
        await exchange.respond(said.pop(0) if said else "over")

    def _of(self, exchange: Exchange) -> list[Said]:
        told = exchange.conversation
        if told.kind == "side":
            return ["A title"]
        if told.kind == "main":
            return self._main
        if told.id not in self._left:
            asked = "\n".join(message.text for message in exchange.request.messages)
            self._left[told.id] = list(next(each for word, each in self._helpers.items() if word in asked))
        return self._left[told.id]


def record(run: Run, folder: Path) -> Path:
    """Run it; the file of its trace."""
    path, work = folder / "trace.jsonl", folder / "work"
    work.mkdir()
    trio.run(_record, run, folder, path)
    return path


async def _record(run: Run, folder: Path, path: Path) -> None:
    executable = installed(SOURCES[run.agent], agents_folder())
    with trio.fail_after(PATIENCE):
        async with (
            serve_endpoint(recorder=JSONLRecorder(path)) as endpoint,
            endpoint.open_rollout(
                _Model(run), metadata={"task": "proof"}, record_wire=run.record_wire
            ) as rollout,
        ):
            launch = agent(run.agent)(
                rollout, folder / "config", "Write hello into proof.txt", executable=str(executable)
            )
            env = {"HOME": str(folder), **launch.env, **run.env}
            result = await rollout.run_agent(launch.argv, env=env, cwd=folder / "work")
            assert result.returncode == 0, result.stderr_text
        await rollout.score("proof", float((folder / "work" / "proof.txt").exists()))
