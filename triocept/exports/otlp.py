"""Convert a trace to OpenTelemetry spans for generative AI, and write such spans into a file in OTLP/JSON.

A rollout is a trace in OpenTelemetry's sense. Its root span is the `invoke_agent` of the main conversation, and each
sub-agent has an `invoke_agent` span below the root. Each model call is a `chat` span below its conversation's span.
Each service call, such as a call of a tool that the program offers, is an `execute_tool` span below the root. The spans
are plain values without OpenTelemetry's packages; `live` sends them while agents run.

The names of spans and attributes are from the repository of OpenTelemetry's conventions in November 2026, where their
status is "Development". The constants of `opentelemetry-semantic-conventions` 0.66b2 are all deprecated, so this module
contains the names as strings.

The file has a line for each rollout, in the format that a collector's file receiver reads. Each line is also a valid
body for OTLP/HTTP. Span ids are computed from ids in the trace. So every export of a trace has the same span ids, and
the spans of a child rollout can link to the spans of its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from typing import IO, Literal, TypeAlias

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
from .._trace.trace import Trace
from .._trace.turn import ServiceCall, Turn, TurnError
from ..dialects.kit import encode_json
from ._chat import answer_of, chat_tools
from ._shared import Losses, Lost, count_lost, ended_at, json_line

_LOST = Lost.SERVICE_VALUES, Lost.TOKENS, Lost.METADATA, Lost.NOTES, Lost.INCREMENTS, Lost.WIRE
_SETTINGS = ("max_output_tokens", "temperature", "top_p", "top_k", "seed", "stop")
_KINDS = {"internal": 1, "client": 3}
_FAILED = 2


def otlp_document(trace: Trace, losses: Losses | None = None, *, content: bool = False) -> dict[str, Json]:
    """Return a trace as the JSON body of an OTLP request: `{"resourceSpans": […]}`.

    Args:
        trace: the trace.
        losses: counter of content that the spans cannot express; None means that such content is not counted.
        content: if True, messages, answers and tools are attributes of each call's span. The size of the document then
            grows with the square of a conversation's length.
    """
    losses = losses if losses is not None else Losses()
    count_lost(losses, trace, *_LOST, *([] if content else [Lost.CONTENT]), settings=_SETTINGS)
    trace_id = _trace_id(trace.rollout, trace.run)
    spans: list[dict[str, Json]] = []
    for data in trace_spans(trace, losses, content=content):
        document: dict[str, Json] = {
            "traceId": trace_id,
            "spanId": _span_id(trace_id, data.key),
            "name": data.name,
            "kind": _KINDS[data.kind],
            "startTimeUnixNano": _nanoseconds(data.start),
            "endTimeUnixNano": _nanoseconds(data.end),
            "attributes": [_attribute(name, value) for name, value in data.attributes.items()],
            "status": {"code": _FAILED, "message": data.error} if data.error is not None else {},
        }
        if data.parent is not None:
            document["parentSpanId"] = _span_id(trace_id, data.parent)
        spans.append(document)
    if trace.branch is not None:
        # to the parent's service call that opened the child, or to the parent
        parent = _trace_id(trace.branch.rollout, trace.branch.run)
        span = _span_id(parent, trace.branch.service or ROOT)
        spans[0]["links"] = [{"traceId": parent, "spanId": span}]
    scope = {"name": "triocept", "version": version("triocept")}
    resource = {"attributes": [_attribute("service.name", "triocept")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def write_otlp(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    for trace in traces:
        file.write(json_line(otlp_document(trace, losses)))


def write_otlp_with_content(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    for trace in traces:
        file.write(json_line(otlp_document(trace, losses, content=True)))


def _attribute(name: str, value: Attribute) -> dict[str, Json]:
    found: dict[str, Json] = {"stringValue": value}
    match value:
        case bool():
            found = {"boolValue": value}
        case int():
            found = {"intValue": str(value)}  # protobuf's JSON writes 64-bit integers as texts
        case float():
            found = {"doubleValue": value}
        case list():
            found = {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
    return {"key": name, "value": found}


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)  # a double of today's time resolves only microseconds


def _trace_id(rollout: str, run: str) -> str:
    return blake2b(f"{rollout}\0{run}".encode(), digest_size=16).hexdigest()


def _span_id(trace_id: str, key: str) -> str:
    return blake2b(f"{trace_id}\0{key}".encode(), digest_size=8).hexdigest()


ROOT = ""
"""Key of a rollout's root span. (The keys of all other spans are not empty.)"""
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
    key: str
    """Identifier of the object that the span describes: the id of a turn or a service call, or a conversation's key."""
    parent: str | None
    """Key of the parent span; None for the rollout's root span."""
    name: str
    kind: Literal["internal", "client"]
    start: float
    """Start of the span, in seconds since the epoch. The field `end` has the same unit."""
    end: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str | None = None
    """Reason why the call failed; None if it did not fail."""


def trace_spans(trace: Trace, losses: Losses, *, content: bool = False) -> Iterator[SpanData]:
    """Yield all spans of a trace. Each span comes after its parent.

    If `content` is True, messages, answers and tools are attributes of each call's span. The size of all spans then
    grows with the square of a conversation's length.
    """
    conversations = trace.conversations
    members: dict[str, list[Turn]] = {ROOT: []}
    owners: dict[str, Conversation | None] = {ROOT: None}
    for turn in trace:
        key = conversation_key(conversations[turn.id])
        members.setdefault(key, []).append(turn)
        owners.setdefault(key, conversations[turn.id])
    for key, turns in members.items():
        yield agent_span(trace, owners[key], turns if key else list(trace))
    for turn in trace:
        yield turn_span(turn, conversations[turn.id], losses, content=content)
    for call in trace.services:
        yield service_span(call)


def conversation_key(conversation: Conversation | None) -> str:
    """Return the key of the span that contains the calls of `conversation`. Each sub-agent has a span of its own."""
    return (
        f"agent {conversation.id}" if conversation is not None and conversation.kind == "sub_agent" else ROOT
    )


def agent_span(trace: Trace, conversation: Conversation | None, turns: Sequence[Turn]) -> SpanData:
    """Return the `invoke_agent` span of a sub-agent; if `conversation` is None, the root span of the rollout."""
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
    operation = _OPERATIONS.get(turn.dialect, "chat")
    request, sampling, response = turn.request, turn.request.sampling, turn.response
    usage = response.usage if response is not None else None
    attributes: dict[str, Attribute | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _provider(turn),
        "gen_ai.conversation.id": conversation.id if conversation is not None else None,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": sampling.max_output_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.stop_sequences": list(sampling.stop) or None,
        "gen_ai.request.stream": request.stream or None,
        "gen_ai.response.time_to_first_chunk": turn.first_event,
        "gen_ai.response.id": response.id or None if response is not None else None,
        "gen_ai.response.model": response.model or None if response is not None else None,
        "error.type": turn.error.type if turn.error is not None else None,
        **_of_rollout(turn.rollout, turn.run),
        "triocept.turn": turn.id,
        "triocept.number": turn.number,
        "triocept.dialect": turn.dialect,
        "triocept.outcome": turn.outcome,
        "triocept.kind": conversation.kind if conversation is not None else None,
        "triocept.attempt": turn.attempt,
        "triocept.policy_start": turn.policy_start,
        "triocept.policy_end": turn.policy_end,
        "user_agent.original": turn.agent,
        **(_content_of(turn, losses) if content else {}),
    }
    if response is not None and turn.outcome == "answered":
        attributes["gen_ai.response.finish_reasons"] = [_FINISHED[response.stopped]]
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.input_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.output_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        attributes["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
        attributes["triocept.usage.estimated"] = usage.estimated or None
    return SpanData(
        key=turn.id,
        parent=conversation_key(conversation),
        name=f"{operation} {turn.request.model}",
        kind="client",
        start=turn.started_at,
        end=ended_at(turn),
        attributes={
            # OTLP has integers of 64 bits: a larger seed becomes a text
            name: str(value) if isinstance(value, int) and not -_INT64 <= value < _INT64 else value
            for name, value in attributes.items()
            if value is not None
        },
        error=_error_text(turn.error),
    )


def service_span(call: ServiceCall) -> SpanData:
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
        error=_error_text(call.error),
    )


def _of_rollout(rollout: str, run: str) -> dict[str, Attribute]:
    return {"triocept.rollout": rollout, **({"triocept.run": run} if run else {})}


def _provider(turn: Turn) -> str:
    return _PROVIDERS.get(turn.dialect, "openai")


def _error_text(error: TurnError | None) -> str | None:
    return f"{error.type}: {error.message}" if error is not None else None


def _content_of(turn: Turn, losses: Losses) -> dict[str, Attribute | None]:
    """Return the messages, the answer and the tools of a call as attributes of its span. Each value is a JSON text."""
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
                losses.add(Lost.BLOBS, len(part.blobs))
                yield {"type": "reasoning", "content": text}
            case ToolCall():
                yield {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
            case ToolResult():
                losses.add(Lost.MARKS_OF_ERRORS, part.is_error)
                losses.add(Lost.MEDIA, sum(isinstance(each, Media) for each in part.content))
                losses.add(Lost.OPAQUE, sum(isinstance(each, Opaque) for each in part.content))
                yield {"type": "tool_call_response", "id": part.id, "response": part.text}
            case Opaque():
                losses.add(Lost.OPAQUE)
            case Media():
                losses.add(Lost.MEDIA)
                yield {
                    "type": "uri" if part.url else "blob",
                    "modality": part.kind,
                    "mime_type": part.media_type,
                }
