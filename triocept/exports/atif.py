"""Write ATIF 1.8 (Harbor's Agent Trajectory Interchange Format): a folder of JSON documents.

Rules:

1. A rollout is a document, `<rollout>.json`. If the agent compacts its history, the calls after the compaction are in
   another document, `<rollout>.cont-1.json`. The document with the calls before the compaction names this file.
2. The messages that a call adds to the conversation are steps of the system and the user. The call's answer is a step
   of the agent. The results of the answer's tool calls are sent with a later call. These results become the observation
   of the agent's step.
3. The trajectory of a sub-agent is embedded in a document. The result of the tool call that began the sub-agent refers
   to this trajectory. Calls outside the conversations (side calls, for example for a title) are embedded, too; their
   `extra` names their kind.
4. The history may contain a message of the model that is no answer of this conversation. The step of this message is
   marked as copied context, which trainers do not train on.

A document cannot contain a call without an answer, so such calls are left out, and counted as losses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .._canonical.content import (
    Json,
    Media,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects.kit import data_url, encode_json, media_type_of
from ._chat import Chat, input_text, object_arguments
from ._segments import Segment, new_messages, segments_of
from ._shared import Losses, Lost, count_lost, ended_at, iso_time, policy_of, without_none

VERSION = "ATIF-v1.8"


def atif_documents(
    trace: Trace, losses: Losses | None = None, *, name: str = ""
) -> dict[str, dict[str, Json]]:
    """Return the ATIF documents of a trace, by file name. The first document is the start of the main conversation.

    Args:
        trace: the trace. If no call in it was answered, it has no document.
        losses: counter of content that the documents cannot express; None means that such content is not counted.
        name: beginning of the file names; empty means the rollout's id.
    """
    losses = losses if losses is not None else Losses()
    kinds = Lost.SERVICE_CALLS, Lost.FAILED_CALLS, Lost.INCREMENTS, Lost.WIRE
    count_lost(losses, trace, *kinds, settings=("reasoning",))
    name = name or file_name(trace.rollout)
    segments = [each for each in segments_of(trace) if any(turn.outcome == "answered" for turn in each.turns)]
    chat = Chat(losses)
    documents = [_Document(trace, each, f"{name}-{n}", chat) for n, each in enumerate(segments)]
    files: dict[str, _Document] = {}
    chains: dict[tuple[str, ...], list[_Document]] = {}
    for document in documents:
        conversation = document.segment.conversation
        chains.setdefault((conversation.id, conversation.kind), []).append(document)
    main_first = sorted(chains.values(), key=lambda chain: chain[0].segment.conversation.kind != "main")
    for number, chain in enumerate(main_first):
        first = f"{name}.sub-{number}" if number else name
        names = [f"{first}.json", *(f"{first}.cont-{n}.json" for n in range(1, len(chain)))]
        for document, following in zip(chain, names[1:], strict=False):
            document.continued = following
        files.update(zip(names, chain, strict=True))
        if number:
            # in the trajectory of the call that began it, or in the first trajectory
            embedded, around = files.pop(names[0]), files[f"{name}.json"]
            if (launch := embedded.segment.launch) is not None:
                around = next((each for each in documents if launch.turn in each.segment.turns), around)
                around.steps.refer(launch.call, embedded.identity)
            around.embedded.append(embedded)
    return {file: document.rendered() for file, document in files.items()}


def write_atif(traces: Iterable[Trace], folder: Path, losses: Losses) -> None:
    """Write the ATIF documents of all traces into `folder`."""
    names: set[str] = set()
    for trace in traces:
        name = file_name(trace.rollout)
        while name in names:  # another run of this id, or an id with an equal file name
            name = f"{name}-{trace.run[:8] or 'again'}"
        names.add(name)
        for file, document in atif_documents(trace, losses, name=name).items():
            (folder / file).write_bytes(encode_json(document) + b"\n")


def file_name(rollout: str) -> str:
    return re.sub(r"[^\w.-]", "_", rollout)[:100].lstrip(".-") or "rollout"


class _Document:
    """An ATIF trajectory: either a document of its own, or embedded in another trajectory."""

    def __init__(self, trace: Trace, segment: Segment, identity: str, chat: Chat) -> None:
        self.segment = segment
        self.identity = identity
        self.steps = Steps(chat.losses)
        self.steps.add_turns(segment.turns)
        self.embedded: list[_Document] = []
        self.continued: str | None = None
        """Name of the file in which the trajectory continues; None if it does not continue."""
        self._trace = trace
        self._chat = chat

    def rendered(self) -> dict[str, Json]:
        """Return the trajectory as JSON, including its embedded trajectories."""
        metrics = [step["metrics"] for step in self.steps.documents if "metrics" in step]
        sums: dict[str, Json] = {"total_steps": len(self.steps.documents)}
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            if known := [each[name] for each in metrics if name in each]:
                sums[f"total_{name}"] = sum(known)
        last, summary = self.segment.turns[-1], self.segment.summarised_by
        # from a User-Agent like `claude-cli/2.1.197 (external, cli)`: the format requires name and version
        name, _, rest = (last.agent or "").partition("/")
        agent: dict[str, Json] = {
            "name": name.strip() or "unknown",
            "version": rest.partition(" ")[0] or "unknown",
            "model_name": last.request.model,
            "tool_definitions": self._chat.tools(last.request.tools) or None,
            "extra": {"user_agent": last.agent} if last.agent is not None else None,
        }
        extra = {
            "rollout": self._trace.rollout,
            "sealed": self._trace.sealed,
            "stopped": self._trace.stopped,
            "scores": dict(self._trace.scores) or None,
            "metadata": dict(self._trace.metadata) or None,
            "conversation": self.segment.conversation.id,
            "kind": self.segment.conversation.kind,
            "summarised_by": summary.id if summary is not None else None,
        }
        document = {
            "schema_version": VERSION,
            "session_id": self._trace.run or self._trace.rollout,
            "trajectory_id": self.identity,
            "agent": without_none(agent),
            "steps": self.steps.documents,
            "final_metrics": sums,
            "continued_trajectory_ref": self.continued,
            "extra": without_none(extra),
            "subagent_trajectories": [each.rendered() for each in self.embedded] or None,
        }
        return without_none(document)


_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Steps:
    """The model calls of a conversation as a sequence of ATIF steps.

    A tool's result is sent with a later model call. The result becomes the observation of the step that called the
    tool. A result belongs to the tool call with the same id. If the agent has changed the ids, the result belongs to
    the first tool call without a result.
    """

    def __init__(self, losses: Losses) -> None:
        self.documents: list[dict[str, Json]] = []
        self._losses = losses
        self._open: dict[str, dict[str, Json]] = {}
        """For each tool call without a result, by its id: the step that contains the tool call."""
        self._answered: set[str] = set()
        """Ids of the tool calls that have a result."""

    def add_turns(self, turns: Iterable[Turn]) -> None:
        before: Turn | None = None
        for turn in turns:
            for message in new_messages(before, turn):
                for result in message.tool_results:
                    self._add_result(result, turn)
                rest = [part for part in message.content if not isinstance(part, ToolResult)]
                if message.role == "assistant":
                    step = self._add("agent", turn.started_at, _text_of(rest))
                    step["is_copied_context"] = True
                    self._add_parts(step, rest)
                elif rest or not message.content:
                    source = "system" if message.role in ("system", "developer") else "user"
                    self._add(source, turn.started_at, self._content(rest, input_text(rest)))
            if turn.outcome == "answered":
                self._add_answer(turn)
            before = turn

    def refer(self, call: ToolCall, trajectory: str) -> None:
        """Add a reference to `trajectory` to the result of `call`.

        `call` started a sub-agent, and `trajectory` is the trajectory of this sub-agent.
        """
        for step in self.documents:
            if any(each["tool_call_id"] == call.id for each in step.get("tool_calls", ())):
                results = step.setdefault("observation", {"results": []})["results"]
                mine = next((each for each in results if each.get("source_call_id") == call.id), None)
                if mine is None:
                    mine = {"source_call_id": call.id}
                    results.append(mine)
                mine.setdefault("subagent_trajectory_ref", []).append({"trajectory_id": trajectory})

    def _content(self, parts: Sequence[Part], text: str) -> Json:
        """Return a list of the texts and images in `parts` if `parts` contain images; otherwise return `text`."""
        documents: list[Json] = []
        for part in parts:
            image = data_url(part) if isinstance(part, Media) and part.kind == "image" else None
            if isinstance(part, Text | RefusalText):
                documents.append({"type": "text", "text": part.text})
            elif isinstance(part, Media) and image is not None and media_type_of(part) in _IMAGES:
                source = {"media_type": media_type_of(part), "path": image}
                documents.append({"type": "image", "source": source})
            else:
                self._losses.add(Lost.MEDIA if isinstance(part, Media) else Lost.OPAQUE)
        return documents if any(document["type"] == "image" for document in documents) else text

    def _add(self, source: str, at: float, message: Json) -> dict[str, Json]:
        step = {
            "step_id": len(self.documents) + 1,
            "timestamp": iso_time(at),
            "source": source,
            "message": message,
        }
        self.documents.append(step)
        return step

    def _add_result(self, result: ToolResult, turn: Turn) -> None:
        if result.id in self._answered:  # a repeated result
            return
        content = self._content(result.content, result.text)
        identity = result.id if result.id in self._open else next(iter(self._open), None)
        if identity is None:
            self._losses.add(Lost.LATE_RESULTS)
            self._add("user", turn.started_at, content)
            return
        step = self._open.pop(identity)
        self._answered |= {identity, result.id}
        document: dict[str, Json] = {"source_call_id": identity, "content": content}
        if result.is_error:
            document["extra"] = {"is_error": True}
        step.setdefault("observation", {"results": []})["results"].append(document)

    def _add_answer(self, turn: Turn) -> None:
        response = turn.response
        assert response is not None
        step = self._add("agent", ended_at(turn), _text_of(response.content))
        step["model_name"] = response.model or turn.request.model
        if turn.request.reasoning is not None and turn.request.reasoning.effort is not None:
            step["reasoning_effort"] = turn.request.reasoning.effort
        self._open.clear()  # calls without a result by now never get a result
        self._add_parts(step, response.content)
        metrics: dict[str, Json] = {}
        if (usage := response.usage) is not None:
            metrics = {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "cached_tokens": usage.cached_tokens,
                "extra": {
                    "cache_write_tokens": usage.cache_write_tokens,
                    "reasoning_tokens": usage.reasoning_tokens,
                    "estimated": usage.estimated,
                },
            }
        if (tokens := turn.tokens) is not None:
            metrics["prompt_token_ids"] = list(tokens.prompt_ids) or None
            metrics["completion_token_ids"] = list(tokens.completion_ids) or None
            metrics["logprobs"] = list(tokens.logprobs) or None
        step["metrics"] = without_none(metrics)
        step["llm_call_count"] = 1
        step["extra"] = {
            "turn": turn.id,
            "dialect": turn.dialect,
            "response": response.id or None,
            "stop_reason": response.stopped,
            "duration": turn.duration,
            "first_event": turn.first_event,
            **({"notes": turn.notes} if turn.notes else {}),
            **policy_of(turn),
        }

    def _add_parts(self, step: dict[str, Json], parts: Iterable[object]) -> None:
        parts = list(parts)
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        if text := "".join(part.text for part in thoughts):
            step["reasoning_content"] = text
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if calls:
            step["tool_calls"] = [
                {
                    "tool_call_id": call.id,
                    "function_name": call.name,
                    "arguments": object_arguments(call, self._losses),
                }
                for call in calls
            ]
            self._open |= {call.id: step for call in calls}
        self._losses.add(Lost.BLOBS, sum(len(part.blobs) for part in thoughts))
        self._losses.add(Lost.MEDIA, sum(isinstance(part, Media) for part in parts))
        self._losses.add(Lost.OPAQUE, sum(isinstance(part, Opaque) for part in parts))
        self._losses.add(Lost.REFUSALS, sum(isinstance(part, RefusalText) for part in parts))


def _text_of(parts: Iterable[object]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text | RefusalText))
