"""ATIF 1.8, Harbor's Agent Trajectory Interchange Format: a folder of documents.

Rules:

1. A rollout is a document, `<rollout>.json`. A compaction ends it; what follows is another, `<rollout>.cont-1.json`,
   that the first one names.
2. What a call says anew is steps of the system and the user; its answer is a step of the agent, and the results of its
   tools, which came with a later call, are that step's observation.
3. A sub-agent's trajectory is embedded, and the result of the call that began it refers to it. Side calls are embedded
   too; `extra` says what they are.
4. What the model says in a history without having said it in this conversation is copied context, which nobody trains
   on.

A document has no place for a call that was not answered: such calls are left out, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .._canonical.content import Json
from .._trace.trace import Trace
from ..dialects.kit import encode_json
from . import _losses as lost
from ._chat import Chat
from ._losses import Losses
from ._segments import Segment, segments_of
from ._steps import Steps

VERSION = "ATIF-v1.8"


def atif_documents(
    trace: Trace, losses: Losses | None = None, *, name: str = ""
) -> dict[str, dict[str, Json]]:
    """The documents of a trace, by their file names; the first one is the beginning of its main conversation.

    Args:
        trace: it; one without an answered call has no document.
        losses: counts what has no place in them; None: nobody does.
        name: how the file names begin; empty: as the rollout's id.
    """
    losses = losses if losses is not None else Losses()
    kinds = lost.SERVICE_CALLS, lost.FAILED_CALLS, lost.INCREMENTS, lost.WIRE
    lost.count_lost(losses, trace, *kinds, settings=("reasoning",))
    name = name or file_name(trace.rollout)
    segments = [each for each in segments_of(trace) if any(turn.outcome == "answered" for turn in each.turns)]
    chat = Chat(losses)
    documents = [_Document(trace, each, f"{name}-{n}", chat) for n, each in enumerate(segments)]
    files: dict[str, _Document] = {}
    for number, chain in enumerate(_chains(documents)):
        first = f"{name}.sub-{number}" if number else name
        names = [f"{first}.json", *(f"{first}.cont-{n}.json" for n in range(1, len(chain)))]
        for document, following in zip(chain, names[1:], strict=False):
            document.continued = following
        files.update(zip(names, chain, strict=True))
        if number:
            _embed(files.pop(names[0]), documents, files[f"{name}.json"])
    return {file: document.rendered() for file, document in files.items()}


def write_atif(traces: Iterable[Trace], folder: Path, losses: Losses) -> None:
    """The documents of these traces, into this folder."""
    names: set[str] = set()
    for trace in traces:
        name = file_name(trace.rollout)
        while name in names:  # another run of the same id, or one that differs where file names cannot
            name = f"{name}-{trace.run[:8] or 'again'}"
        names.add(name)
        for file, document in atif_documents(trace, losses, name=name).items():
            (folder / file).write_bytes(encode_json(document) + b"\n")


def file_name(rollout: str) -> str:
    """A rollout's id as the name of a file."""
    return re.sub(r"[^\w.-]", "_", rollout)[:100].lstrip(".-") or "rollout"


class _Document:
    """One trajectory."""

    def __init__(self, trace: Trace, segment: Segment, identity: str, chat: Chat) -> None:
        self.segment = segment
        self.identity = identity
        self.steps = Steps(chat.losses)
        self.steps.add_turns(segment.turns)
        self.embedded: list[_Document] = []
        self.continued: str | None = None
        """The file that it goes on in."""
        self._trace = trace
        self._chat = chat

    def rendered(self) -> dict[str, Json]:
        """It, with those that are embedded in it."""
        document = {
            "schema_version": VERSION,
            "session_id": self._trace.run or self._trace.rollout,
            "trajectory_id": self.identity,
            "agent": self._agent(),
            "steps": self.steps.documents,
            "final_metrics": self._sums(),
            "continued_trajectory_ref": self.continued,
            "extra": self._extra(),
            "subagent_trajectories": [each.rendered() for each in self.embedded] or None,
        }
        return {name: value for name, value in document.items() if value is not None}

    def _agent(self) -> dict[str, Json]:
        last = self.segment.turns[-1]
        name, version = _name_and_version(last.agent or "")
        agent: dict[str, Json] = {"name": name, "version": version, "model_name": last.request.model}
        if tools := self._chat.tools(last.request.tools):
            agent["tool_definitions"] = tools
        if last.agent is not None:
            agent["extra"] = {"user_agent": last.agent}
        return agent

    def _extra(self) -> dict[str, Json]:
        summary, conversation = self.segment.summarised_by, self.segment.conversation
        extra = {
            "rollout": self._trace.rollout,
            "sealed": self._trace.sealed,
            "stopped": self._trace.stopped,
            "scores": dict(self._trace.scores) or None,
            "metadata": dict(self._trace.metadata) or None,
            "conversation": conversation.id,
            "kind": conversation.kind,
            "summarised_by": summary.id if summary is not None else None,
        }
        return {name: value for name, value in extra.items() if value is not None}

    def _sums(self) -> dict[str, Json]:
        metrics = [step["metrics"] for step in self.steps.documents if "metrics" in step]
        sums: dict[str, Json] = {"total_steps": len(self.steps.documents)}
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            if known := [each[name] for each in metrics if name in each]:
                sums[f"total_{name}"] = sum(known)
        return sums


def _name_and_version(agent: str) -> tuple[str, str]:
    """Out of what an agent calls itself (`claude-cli/2.1.197 (external, cli)`): the format wants both."""
    name, _, rest = agent.partition("/")
    version = rest.partition(" ")[0]
    return name.strip() or "unknown", version or "unknown"


def _chains(documents: Sequence[_Document]) -> list[list[_Document]]:
    """The documents of each conversation, cut at compactions; that of the main one first."""
    found: dict[tuple[str, ...], list[_Document]] = {}
    for document in documents:
        told = document.segment.conversation
        found.setdefault((told.id, told.kind), []).append(document)
    return sorted(found.values(), key=lambda chain: chain[0].segment.conversation.kind != "main")


def _embed(document: _Document, documents: Sequence[_Document], root: _Document) -> None:
    """Put a trajectory into that of the call that began it, or into the first one."""
    launch, around = document.segment.launch, root
    if launch is not None:
        around = next((each for each in documents if launch.turn in each.segment.turns), root)
        around.steps.refer(launch.call, document.identity)
    around.embedded.append(document)
