"""ATIF 1.8, Harbor's Agent Trajectory Interchange Format: a folder of documents.

Rules:

1. A rollout is a document, `<rollout>.json`. A compaction ends it; the rest is another document,
   `<rollout>.cont-1.json`, which the first document names.
2. New messages of a call are steps of the system and the user, and its answer is a step of the agent. The results of
   the answer's tools, which come with a later call, are that step's observation.
3. A sub-agent's trajectory is embedded, and the result of the call that began it refers to it. Side calls are embedded
   too; `extra` describes them.
4. A model message in a history that was not answered in this conversation is copied context, which is not trained on.

A document has no place for a call without an answer: such calls are left out, and counted.
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
    """Return the documents of a trace by file name, beginning with the start of its main conversation.

    Args:
        trace: the trace; without an answered call it has no document.
        losses: counts content without a place in the documents; None: no count.
        name: prefix of the file names; empty: the rollout's id.
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
    """Write the documents of these traces into this folder."""
    names: set[str] = set()
    for trace in traces:
        name = file_name(trace.rollout)
        while name in names:  # another run of this id, or an id with an equal file name
            name = f"{name}-{trace.run[:8] or 'again'}"
        names.add(name)
        for file, document in atif_documents(trace, losses, name=name).items():
            (folder / file).write_bytes(encode_json(document) + b"\n")


def file_name(rollout: str) -> str:
    """Return a rollout's id as a file name."""
    return re.sub(r"[^\w.-]", "_", rollout)[:100].lstrip(".-") or "rollout"


class _Document:
    """A trajectory, as a document or embedded in one."""

    def __init__(self, trace: Trace, segment: Segment, identity: str, chat: Chat) -> None:
        self.segment = segment
        self.identity = identity
        self.steps = Steps(chat.losses)
        self.steps.add_turns(segment.turns)
        self.embedded: list[_Document] = []
        self.continued: str | None = None
        """File in which the trajectory continues."""
        self._trace = trace
        self._chat = chat

    def rendered(self) -> dict[str, Json]:
        """Return the trajectory with its embedded trajectories."""
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
    """Split an agent's User-Agent (`claude-cli/2.1.197 (external, cli)`): the format requires name and version."""
    name, _, rest = agent.partition("/")
    version = rest.partition(" ")[0]
    return name.strip() or "unknown", version or "unknown"


def _chains(documents: Sequence[_Document]) -> list[list[_Document]]:
    """Return the documents of each conversation, cut at compactions, the main conversation first."""
    found: dict[tuple[str, ...], list[_Document]] = {}
    for document in documents:
        told = document.segment.conversation
        found.setdefault((told.id, told.kind), []).append(document)
    return sorted(found.values(), key=lambda chain: chain[0].segment.conversation.kind != "main")


def _embed(document: _Document, documents: Sequence[_Document], root: _Document) -> None:
    """Embed a trajectory in the trajectory of the call that began it, or in the first trajectory."""
    launch, around = document.segment.launch, root
    if launch is not None:
        around = next((each for each in documents if launch.turn in each.segment.turns), root)
        around.steps.refer(launch.call, document.identity)
    around.embedded.append(document)
