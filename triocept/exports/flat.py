"""Flat JSONL: a line for each turn, with complete messages, for jq, pandas and `datasets`.

The reference describes each column. Numbers and words are separate columns. Messages have the form of chat completions
(see `_chat`), with `reasoning_content` and, for a result, `is_error`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from .._canonical.content import Json
from .._canonical.response import Usage
from .._trace.conversation import Conversation
from .._trace.trace import Trace
from .._trace.turn import Turn
from . import _losses as lost
from ._chat import Chat, answer_of
from ._lines import json_line
from ._losses import Losses

_SETTINGS = ("max_output_tokens", "temperature", "top_p", "top_k", "seed")


def flat_rows(trace: Trace, losses: Losses | None = None) -> Iterator[dict[str, Json]]:
    """Yield the turns of a trace as flat rows, in the order in which they settled.

    Args:
        trace: the trace.
        losses: counts content without a column; None: no count.
    """
    losses = losses if losses is not None else Losses()
    lost.count_lost(losses, trace, lost.SERVICE_CALLS, lost.INCREMENTS, lost.WIRE, settings=_SETTINGS)
    chat = Chat(losses)
    parents, conversations = trace.parents, trace.conversations
    for turn in trace:
        yield {
            **_of_rollout(trace),
            **_of_place(turn, parents[turn.id], conversations[turn.id]),
            **_of_outcome(turn),
            **_of_usage(turn.response.usage if turn.response is not None else None),
            **_of_sampling(turn),
            "messages": chat.messages(turn.request.messages),
            "tools": chat.tools(turn.request.tools),
            "answer": chat.message(answer_of(turn.response))[0] if turn.response is not None else None,
            **_of_tokens(turn),
            "notes": turn.notes or None,
        }


def write_flat(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write a line for each turn of these traces."""
    for trace in traces:
        for row in flat_rows(trace, losses):
            file.write(json_line(row))


def _of_rollout(trace: Trace) -> dict[str, Json]:
    return {
        "rollout": trace.rollout,
        "run": trace.run,
        "parent_rollout": trace.branch.rollout if trace.branch is not None else None,
        "sealed": trace.sealed,
        "stopped": trace.stopped,
        "scores": dict(trace.scores) or None,
        "metadata": dict(trace.metadata) or None,
    }


def _of_place(turn: Turn, parent: str | None, conversation: Conversation) -> dict[str, Json]:
    return {
        "turn": turn.id,
        "number": turn.number,
        "parent": parent,
        "conversation": conversation.id,
        "parent_conversation": conversation.parent,
        "kind": conversation.kind,
        "dialect": turn.dialect,
        "agent": turn.agent,
        "attempt": turn.attempt,
        "attended": turn.attended,
        "rewritten": turn.rewritten,
        "started_at": turn.started_at,
        "first_event": turn.first_event,
        "duration": turn.duration,
    }


def _of_outcome(turn: Turn) -> dict[str, Json]:
    response, error = turn.response, turn.error
    return {
        "outcome": turn.outcome,
        "error": error.type if error is not None else None,
        "error_message": error.message if error is not None else None,
        "status": error.status if error is not None else None,
        "model": turn.request.model,
        "answered_by": response.model or None if response is not None else None,
        "response": response.id or None if response is not None else None,
        "stop_reason": response.stopped if response is not None and turn.outcome == "answered" else None,
    }


def _of_usage(usage: Usage | None) -> dict[str, Json]:
    return {
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "cached_tokens": usage.cached_tokens if usage is not None else None,
        "cache_write_tokens": usage.cache_write_tokens if usage is not None else None,
        "reasoning_tokens": usage.reasoning_tokens if usage is not None else None,
        "estimated": usage.estimated if usage is not None else None,
    }


def _of_sampling(turn: Turn) -> dict[str, Json]:
    sampling = turn.request.sampling
    return {
        "max_output_tokens": sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "sampled_temperature": turn.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "stream": turn.request.stream,
    }


def _of_tokens(turn: Turn) -> dict[str, Json]:
    tokens = turn.tokens
    return {
        "prompt_ids": list(tokens.prompt_ids) if tokens is not None else None,
        "completion_ids": list(tokens.completion_ids) if tokens is not None else None,
        "logprobs": list(tokens.logprobs) if tokens is not None else None,
        "engine": tokens.engine or None if tokens is not None else None,
        "policy_version": tokens.policy_version if tokens is not None else None,
        "stop_included": tokens.stop_included if tokens is not None else None,
        "token_gaps": list(tokens.gaps) if tokens is not None else None,
    }
