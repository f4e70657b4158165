"""Write episodes in the format of the package verifiers (0.4.0): its file `traces.jsonl`, a line for each rollout.

Rules:

1. A trace is a graph of messages. Each message refers to the message before it, and answers are marked as `sampled`.
   Sub-agents and compactions are branches. Named links (`subagent_call`, `compaction`) lead from a branch to its
   origin.
2. The tokens of a branch, in order, are exactly the tokens that the engine read and sampled. Only the engine's chat
   template determines which prompt tokens belong to which message. So a call's new prompt tokens are in the node of the
   call's answer, before the sampled tokens, and are not trained on. If a call's prompt does not begin with the tokens
   of the previous call, the call begins a new branch. If a call's tokens are incomplete (`Tokens.gaps`, see `steps`),
   its answer is masked out, as context.
3. This module does not import verifiers, because verifiers requires other versions of some packages than triocept.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from tempfile import TemporaryFile
from typing import IO

from .._canonical.content import Json, Message
from .._canonical.response import StopReason
from .._trace.tokens import Tokens
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from .._trace.views.step import steps
from ..dialects.kit import decode_json, encode_json
from ._chat import Chat, answer_of
from ._segments import new_messages, segments_of
from ._shared import Losses, Lost, count_lost, ended_at, json_line

_LOST = (
    *(Lost.SERVICE_CALLS, Lost.CONVERSATIONS, Lost.RESPONSE_IDS, Lost.CACHE_WRITES, Lost.NOTES),
    *(Lost.INCREMENTS, Lost.WIRE),
)
VERSION = "0.4.0"
"""Version of the package verifiers whose format this module writes."""
_FINISHED: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "context_full": "length",
    "refused": "stop",
    "paused": "stop",
}


def verifiers_episode(
    trace: Trace, losses: Losses | None = None, *, reward: str | None = None
) -> dict[str, Json]:
    """Return a trace as the JSON of an `Episode` with one `Trace`, as verifiers defines them.

    Args:
        trace: the trace.
        losses: counter of content that the episode cannot express; None means that such content is not counted.
        reward: name of the score that is the reward; all other scores are metrics. If None and the rollout has only one
            score, this score is the reward. If None and it has several scores, all become metrics, and a warning is
            issued: verifiers would add several rewards up.
    """
    losses = losses if losses is not None else Losses()
    if reward is None and len(trace.scores) == 1:
        (reward,) = trace.scores
    if reward is None and trace.scores:
        _warn(trace.scores, len(trace.scores), losses, stacklevel=3)
    return _episode(trace, losses, reward)


def write_verifiers(
    traces: Iterable[Trace], file: IO[bytes], losses: Losses, *, reward: str | None = None
) -> None:
    """Write one line for each trace.

    `reward` is the name of the score that is the reward. If it is None, and all scores in the traces have the same
    name, that score is the reward. Raise ValueError if no rollout has a score named `reward`.
    """
    names: Counter[str] = Counter()
    with TemporaryFile() if reward is None else nullcontext(file) as lines:
        for trace in traces:
            names.update(dict.fromkeys(trace.scores, 1))
            lines.write(json_line(_episode(trace, losses, reward)))
        if reward is None:
            lines.seek(0)
            for line in lines:
                if len(names) == 1:
                    episode = decode_json(line)
                    episode["traces"][0] |= _scored(episode["traces"][0]["metrics"], *names)
                    line = json_line(episode)
                file.write(line)
    if reward is None and len(names) > 1:
        _warn(names, names.total(), losses, stacklevel=4)
    if reward is not None and reward not in names:
        there = f"the scores are {', '.join(sorted(names))}" if names else "no rollout has any score"
        raise ValueError(f"no rollout has the score {reward!r}, which reward= names; {there}")


def _scored(scores: Mapping[str, float], reward: str | None) -> dict[str, Json]:
    metrics = dict(scores)
    if reward is None:
        return {"rewards": {}, "metrics": metrics}
    score = metrics.pop(reward, None)  # None: verifiers writes it, too, if scoring did not run
    return {"rewards": {reward: None if score is None else {"score": score}}, "metrics": metrics}


def _warn(names: Iterable[str], count: int, losses: Losses, stacklevel: int) -> None:
    losses.add(Lost.METRICS, count)
    text = f"the scores {', '.join(sorted(names))} all become metrics: name the score that is the reward (reward=)"
    warnings.warn(text, stacklevel=stacklevel)


def _episode(trace: Trace, losses: Losses, reward: str | None) -> dict[str, Json]:
    count_lost(losses, trace, *_LOST, settings=("temperature", "top_p", "max_output_tokens"))
    graph = _Graph(trace, losses)
    task = {"type": "triocept", "data": {"name": trace.rollout, "id": trace.rollout}}
    turns = list(trace)
    ok = trace.sealed and trace.stopped is None and bool(turns)
    started = min((turn.started_at for turn in turns), default=0.0)
    ended = max(map(ended_at, turns), default=0.0)
    return {
        "id": trace.run or trace.rollout,
        "env": {"id": "triocept"},
        "task": task,
        "ok": ok,
        "traces": [
            {
                "id": trace.run or trace.rollout,
                "verifiers": {"version": VERSION},
                "task": task,
                "agent": {"config": {"model": turns[0].request.model} if turns else {}},
                "info": {
                    "rollout": trace.rollout,
                    "sealed": trace.sealed,
                    "parent_rollout": trace.branch.rollout if trace.branch is not None else None,
                    "metadata": dict(trace.metadata),
                },
                "is_completed": trace.sealed,
                "ok": ok,
                "stop_condition": trace.stopped,
                "errors": [_error(turn.error) for turn in turns if turn.error is not None],
                "timing": {"start": started, "agent": {"start": started, "end": ended}},
                **_scored(trace.scores, reward),
                "nodes": graph.nodes,
                "calls": graph.calls,
            }
        ],
    }


def _error(error: TurnError) -> dict[str, Json]:
    return {"type": error.type, "message": error.message, "status_code": error.status}


class _Graph:
    """The graph of a trace's messages. Each message is a node, which refers to the node of the message before it."""

    def __init__(self, trace: Trace, losses: Losses) -> None:
        self.nodes: list[dict[str, Json]] = []
        self.calls: list[dict[str, Json]] = []
        self._chat = Chat(losses, media=True, errors=False)
        self._shared: dict[tuple[int | None, bytes], int] = {}
        """Node of each message that the model did not sample, by the node of the message before it and the message's
        content."""
        self._sampled: dict[str, int] = {}
        """Node of each turn's answer, by the turn's id."""
        trained = {step.turn.id for step in steps(trace) if step.trained}
        parents = trace.parents
        by_id = {turn.id: turn for turn in trace}
        for turn in trace:
            parent = by_id[above] if (above := parents[turn.id]) is not None else None
            if parent is not None and parent.id not in self._sampled:
                parent = None
            if parent is not None and (parent.tokens is not None or turn.tokens is not None):
                # the prompt must begin with all tokens that the parent call read and sampled
                before, mine = parent.tokens, turn.tokens
                if (
                    before is None
                    or mine is None
                    or not mine.prompt.startswith(before.prompt + before.completion)
                ):
                    parent = None
            node: int | None = self._sampled[parent.id] if parent is not None else None
            for message in new_messages(parent, turn):
                node = self._add_message(message, turn, node)
            call = _call(turn)
            if turn.outcome == "answered" and turn.response is not None:
                (document,) = self._chat.message(answer_of(turn.response))
                before = parent.tokens if parent is not None else None
                tokens = _tokens(turn.tokens, before, trained=turn.id in trained)
                node = self._put(document, ended_at(turn), node, sampled=True, **tokens)
                call["node"] = self._sampled[turn.id] = node
            self.calls.append(call)
        for segment in segments_of(trace):
            first = segment.turns[0].id
            if segment.launch is not None:
                self._link(first, segment.launch.turn.id, "subagent_call")
            if segment.summarised_by is not None:
                self._link(first, segment.summarised_by.id, "compaction")

    def _add_message(self, message: Message, turn: Turn, before: int | None) -> int | None:
        tools = [tool["function"] for tool in self._chat.tools(turn.request.tools)] if before is None else []
        documents = self._chat.message(message)
        key = (before, encode_json([documents, tools]))
        if key not in self._shared and documents:
            node = before
            for number, document in enumerate(documents):
                more = {"tools": tools} if tools and number == 0 else {}
                node = self._put(document, turn.started_at, node, sampled=False, **more)
            assert node is not None
            self._shared[key] = node
        return self._shared.get(key, before)

    def _put(
        self, document: dict[str, Json], at: float, before: int | None, *, sampled: bool, **more: Json
    ) -> int:
        message = dict(document)
        if "tool_calls" in message:  # verifiers' calls are flat
            message["tool_calls"] = [{"id": call["id"], **call["function"]} for call in message["tool_calls"]]
        node = {"parent": before, "message": message, "sampled": sampled, "timestamp": at, **more}
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _link(self, turn: str, to: str, kind: str) -> None:
        if turn in self._sampled and to in self._sampled:
            node = self.nodes[self._sampled[turn]]
            node.setdefault("semantic_parents", []).append({"node": self._sampled[to], "type": kind})


def _tokens(tokens: Tokens | None, before: Tokens | None, *, trained: bool) -> dict[str, Json]:
    """Return a node's fields for the tokens that a call adds: the new tokens of its prompt, then the sampled tokens.

    Args:
        tokens: the tokens of the call.
        before: the tokens of the previous call, which this call continues; None if there is no such call.
        trained: True if the sampled tokens are trained on.
    """
    if tokens is None:
        return {}
    held = len(before.prompt_ids) + len(before.completion_ids) if before is not None else 0
    prompt, sampled = list(tokens.prompt_ids)[held:], list(tokens.completion_ids)
    return {
        "token_ids": prompt + sampled,
        "mask": [False] * len(prompt) + [trained] * len(sampled),
        "logprobs": list(tokens.logprobs) if trained else [],
    }


def _call(turn: Turn) -> dict[str, Json]:
    response, sampling = turn.response, turn.request.sampling
    usage = response.usage if response is not None else None
    return {
        "node": None,
        "model": turn.request.model,
        "sampling": {
            "temperature": turn.temperature if turn.temperature is not None else sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_output_tokens,
        },
        "finish_reason": _FINISHED[response.stopped] if response and turn.outcome == "answered" else None,
        "usage": {
            # verifiers' prompt excludes tokens of a cache, and triocept's includes them
            "prompt_tokens": max(0, usage.input_tokens - (usage.cached_tokens or 0)),
            "completion_tokens": usage.output_tokens,
            "cached_input_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        }
        if usage is not None
        else None,
        "time": {"start": turn.started_at, "end": ended_at(turn)},
        "error": _error(turn.error) if turn.error is not None else None,
    }
