"""A trace as spans of OpenTelemetry's conventions for generative AI, as plain values without OpenTelemetry's packages.

The names are from the conventions' own repository in November 2026, where they are "Development". The constants of
`opentelemetry-semantic-conventions` 0.66b2 are all deprecated, so the names are strings here.

A rollout is a trace. Its root is the `invoke_agent` of the main conversation, and each sub-agent has an `invoke_agent`
below it. Each model call is a `chat` below its conversation's span, and each call of a host tool is an `execute_tool`
below the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .._canonical.response import StopReason
from .._trace.conversation import Conversation
from .._trace.service import ServiceCall
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from ..dialects.kit import encode_json
from . import _losses as lost
from ._chat import answer_of, chat_tools
from ._losses import Losses
from ._times import ended_at

ROOT = ""
"""Key of a rollout's first span."""
_INT64 = 2**63
Attribute: TypeAlias = str | bool | int | float | list[str]

_OPERATIONS = {"openai_completions": "text_completion", "gemini": "generate_content"}
_PROVIDERS = {"anthropic_messages": "anthropic", "gemini": "gcp.gemini", "ollama": "ollama"}
_FINISHED: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_call",
    "max_tokens": "length",
    "context_full": "length",
    "refused": "content_filter",
    "paused": "stop",
}


@dataclass(frozen=True, kw_only=True)
class SpanData:
    """A span."""

    key: str
    """Source of the span: a turn's id, a conversation's key, or a service call's id."""
    parent: str | None
    """Key of the parent span; None for the rollout's first span."""
    name: str
    kind: Literal["internal", "client"]
    start: float
    """Seconds since the epoch, as in `end`."""
    end: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str | None = None
    """Reason of the failure; None if there was no failure."""


def trace_spans(trace: Trace, losses: Losses, *, content: bool = False) -> Iterator[SpanData]:
    """Yield all spans of a trace, parents first.

    Args:
        trace: the trace.
        losses: counts content without a place in the spans.
        content: include messages, answers and tools as attributes of each call; the size grows with the square of a
            conversation's length.
    """
    conversations = trace.conversations
    members: dict[str, list[Turn]] = {ROOT: []}
    told: dict[str, Conversation | None] = {ROOT: None}
    for turn in trace:
        key = conversation_key(conversations[turn.id])
        members.setdefault(key, []).append(turn)
        told.setdefault(key, conversations[turn.id])
    for key, turns in members.items():
        yield agent_span(trace, told[key], turns if key else list(trace))
    for turn in trace:
        yield turn_span(turn, conversations[turn.id], losses, content=content)
    for call in trace.services:
        yield service_span(call)


def conversation_key(conversation: Conversation | None) -> str:
    """Return the key of the span that contains a conversation's calls: each sub-agent has its own span."""
    return (
        f"agent {conversation.id}" if conversation is not None and conversation.kind == "sub_agent" else ROOT
    )


def agent_span(trace: Trace, conversation: Conversation | None, turns: Sequence[Turn]) -> SpanData:
    """Return the `invoke_agent` span of these turns: a sub-agent's, or the rollout's own, which contains all others."""
    name = "sub-agent" if conversation is not None else trace.rollout
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        "gen_ai.conversation.id": conversation.id if conversation is not None else trace.run or trace.rollout,
        **_of_rollout(trace.rollout, trace.run),
    }
    if turns:
        attributes["gen_ai.provider.name"] = _provider(turns[0])
    if trace.branch is not None:
        attributes["triocept.parent_rollout"] = trace.branch.rollout
    begun, ended = [turn.started_at for turn in turns], [ended_at(turn) for turn in turns]
    if conversation is None:
        begun += [call.started_at for call in trace.services]
        begun += [trace.started_at] if trace.started_at is not None else []
        ended += [call.started_at + call.duration for call in trace.services]
        attributes["triocept.sealed"] = trace.sealed
        attributes |= {f"triocept.score.{name}": score for name, score in trace.scores.items()}
        if trace.stopped is not None:
            attributes["triocept.stopped"] = trace.stopped
    return SpanData(
        key=conversation_key(conversation),
        parent=None if conversation is None else ROOT,
        name=f"invoke_agent {name}",
        kind="internal",
        start=min(begun, default=0.0),
        end=max([*begun, *ended], default=0.0),
        attributes=attributes,
    )


def turn_span(
    turn: Turn, conversation: Conversation | None, losses: Losses, *, content: bool = False
) -> SpanData:
    """Return the span of one model call."""
    operation = _OPERATIONS.get(turn.dialect, "chat")
    attributes: dict[str, Attribute | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _provider(turn),
        "gen_ai.conversation.id": conversation.id if conversation is not None else None,
        **_of_request(turn),
        **_of_response(turn),
        **_of_rollout(turn.rollout, turn.run),
        "triocept.turn": turn.id,
        "triocept.number": turn.number,
        "triocept.dialect": turn.dialect,
        "triocept.outcome": turn.outcome,
        "triocept.kind": conversation.kind if conversation is not None else None,
        "triocept.attempt": turn.attempt,
        "user_agent.original": turn.agent,
        **(content_of(turn, losses) if content else {}),
    }
    return SpanData(
        key=turn.id,
        parent=conversation_key(conversation),
        name=f"{operation} {turn.request.model}",
        kind="client",
        start=turn.started_at,
        end=ended_at(turn),
        attributes={name: _fitting(value) for name, value in attributes.items() if value is not None},
        error=_said(turn.error),
    )


def _fitting(value: Attribute) -> Attribute:
    """Return an attribute that fits OTLP: a seed of more than 64 bits becomes a text."""
    return str(value) if isinstance(value, int) and not -_INT64 <= value < _INT64 else value


def service_span(call: ServiceCall) -> SpanData:
    """Return the span of one call of a host service."""
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.type": "function",
        **_of_rollout(call.rollout, call.run),
        "triocept.service": call.id,
        "triocept.kind": call.kind,
        "triocept.outcome": call.outcome,
    }
    if call.error is not None:
        attributes["error.type"] = call.error.type
    return SpanData(
        key=call.id,
        parent=ROOT,
        name=f"execute_tool {call.name}",
        kind="internal",
        start=call.started_at,
        end=call.started_at + call.duration,
        attributes=attributes,
        error=_said(call.error),
    )


def _of_rollout(rollout: str, run: str) -> dict[str, Attribute]:
    return {"triocept.rollout": rollout, **({"triocept.run": run} if run else {})}


def _provider(turn: Turn) -> str:
    return _PROVIDERS.get(turn.dialect, "openai")


def _said(error: TurnError | None) -> str | None:
    return f"{error.type}: {error.message}" if error is not None else None


def _of_request(turn: Turn) -> dict[str, Attribute | None]:
    request, sampling = turn.request, turn.request.sampling
    return {
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": sampling.max_output_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.stop_sequences": list(sampling.stop) or None,
        "gen_ai.request.stream": request.stream or None,
    }


def _of_response(turn: Turn) -> dict[str, Attribute | None]:
    response, usage = turn.response, turn.response.usage if turn.response is not None else None
    finished = response is not None and turn.outcome == "answered"
    return {
        "gen_ai.response.id": response.id or None if response is not None else None,
        "gen_ai.response.model": response.model or None if response is not None else None,
        "gen_ai.response.finish_reasons": [_FINISHED[response.stopped]]
        if response is not None and finished
        else None,
        "gen_ai.response.time_to_first_chunk": turn.first_event,
        "gen_ai.usage.input_tokens": usage.input_tokens if usage is not None else None,
        "gen_ai.usage.output_tokens": usage.output_tokens if usage is not None else None,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens if usage is not None else None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens if usage is not None else None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens if usage is not None else None,
        "triocept.usage.estimated": usage.estimated or None if usage is not None else None,
        "error.type": turn.error.type if turn.error is not None else None,
    }


def content_of(turn: Turn, losses: Losses) -> dict[str, Attribute | None]:
    """Return the messages, the answer and the tools of a call as attributes: JSON texts."""
    messages = turn.request.messages
    head = next((n for n, message in enumerate(messages) if message.role not in _SYSTEM), len(messages))
    system = [part for message in messages[:head] for part in _parts(message.content, losses)]
    answer = None
    if turn.response is not None:
        answer = [
            {**_message(answer_of(turn.response), losses), "finish_reason": _FINISHED[turn.response.stopped]}
        ]
    tools = [{"type": "function", **tool["function"]} for tool in chat_tools(turn.request.tools, losses)]
    return {
        "gen_ai.system_instructions": _json(system),
        "gen_ai.input.messages": _json([_message(message, losses) for message in messages[head:]]),
        "gen_ai.output.messages": _json(answer),
        "gen_ai.tool.definitions": _json(tools),
    }


_SYSTEM = ("system", "developer")


def _json(value: Json) -> str | None:
    return encode_json(value).decode() if value else None


def _message(message: Message, losses: Losses) -> dict[str, Json]:
    role = (
        "tool" if message.tool_results and len(message.tool_results) == len(message.content) else message.role
    )
    return {"role": role, "parts": list(_parts(message.content, losses))}


def _parts(parts: Iterable[Part], losses: Losses) -> Iterator[dict[str, Json]]:
    for part in parts:
        match part:
            case Text(text=text) | RefusalText(text=text):
                yield {"type": "text", "content": text}
            case Reasoning(text=text):
                losses.add(lost.BLOBS, len(part.blobs))
                yield {"type": "reasoning", "content": text}
            case ToolCall():
                yield {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
            case ToolResult():
                losses.add(lost.MARKS_OF_ERRORS, part.is_error)
                losses.add(lost.MEDIA, sum(isinstance(each, Media) for each in part.content))
                losses.add(lost.OPAQUE, sum(isinstance(each, Opaque) for each in part.content))
                yield {"type": "tool_call_response", "id": part.id, "response": part.text}
            case Opaque():
                losses.add(lost.OPAQUE)
            case Media():
                losses.add(lost.MEDIA)
                yield {
                    "type": "uri" if part.url else "blob",
                    "modality": part.kind,
                    "mime_type": part.media_type,
                }
