"""Convert messages, tools and answers to the JSON of an Inspect log, and arrange a trace's turns in Inspect's spans.

Inspect's viewer shows a row for each agent. The viewer needs one span, `solvers`, around all other spans. If `solvers`
directly contains only one agent, the viewer treats it as the main agent. The span of a sub-agent is within the span of
the tool call that started the sub-agent. Without the tool call's span, the viewer would hide a sub-agent that makes
only one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
from .._canonical.request import Request, Tool
from .._canonical.response import Response, StopReason, Usage
from .._trace.turn import Turn
from ..dialects.kit import CUSTOM_SCHEMA, data_url
from ._chat import answer_of, is_object, object_arguments
from ._segments import Segment
from ._shared import Loss, Losses, Lost, ended_at, without_none

SCHEMAS = Loss(
    "word of a JSON Schema that Inspect does not know", "words of JSON Schemas that Inspect does not know"
)
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_STOPPED: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "context_full": "model_length",
    "refused": "content_filter",
    "paused": "stop",
}


def messages_of(message: Message, losses: Losses) -> Iterator[dict[str, Json]]:
    """Convert `message` into one or more messages in Inspect's form. Each tool result becomes a separate message."""
    for result in message.tool_results:
        document = {"role": "tool", "content": _content(result.content, losses), "tool_call_id": result.id}
        if result.name is not None:
            document["function"] = result.name
        if result.is_error:
            document["error"] = {"type": "unknown", "message": result.text}
        yield document
    rest = [part for part in message.content if not isinstance(part, ToolResult)]
    if message.role == "assistant":
        document = {"role": "assistant", "content": _content(rest, losses)}
        calls: list[dict[str, Json]] = []
        for call in (part for part in rest if isinstance(part, ToolCall)):
            is_text = call.kind == "text"
            calls.append(
                {
                    "id": call.id,
                    "function": call.name,
                    "arguments": {"input": call.arguments} if is_text else object_arguments(call, losses),
                    "type": "custom" if is_text else "function",
                }
            )
            if call.kind == "json" and not is_object(call.arguments or "{}"):
                calls[-1]["parse_error"] = "the arguments are not a JSON object"
        if calls:
            document["tool_calls"] = calls
        yield document
    elif rest or not message.content:
        role = "system" if message.role in ("system", "developer") else "user"
        yield {"role": role, "content": _content(rest, losses)}


def output_of(response: Response, losses: Losses) -> dict[str, Json]:
    (message,) = messages_of(answer_of(response), losses)
    output: dict[str, Json] = {
        "model": response.model,
        "choices": [
            {"message": {**message, "source": "generate"}, "stop_reason": _STOPPED[response.stopped]}
        ],
        "completion": response.text,
        "response_id": response.id or None,
    }
    if response.usage is not None:
        output["usage"] = usage_of(response.usage)
        output["input_context_tokens"] = response.usage.input_tokens
    return output


def no_output(model: str, error: str | None) -> dict[str, Json]:
    """Return Inspect's output of a call without an answer. The output has one empty choice, which Inspect requires."""
    message = {"role": "assistant", "content": "", "source": "generate"}
    return {"model": model, "choices": [{"message": message, "stop_reason": "unknown"}], "error": error}


def usage_of(usage: Usage) -> dict[str, Json]:
    """Convert token counts into Inspect's token counts.

    The input count of `usage` includes tokens that a cache read or wrote. Inspect's input count excludes them.
    """
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - (cached or 0) - (written or 0)),
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens_cache_read": cached,
        "input_tokens_cache_write": written,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def config_of(request: Request) -> dict[str, Json]:
    sampling = request.sampling
    config = {
        "max_tokens": sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_seqs": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "parallel_tool_calls": request.parallel_tool_calls,
    }
    return without_none(config)


def tool_of(tool: Tool, losses: Losses) -> dict[str, Json] | None:
    """Convert a tool into Inspect's definition; return None for a tool that a provider runs itself."""
    if tool.kind == "server":
        losses.add(Lost.SERVER_TOOLS)
        return None
    if tool.kind == "custom":
        losses.add(Lost.CUSTOM_TOOLS)
    schema = CUSTOM_SCHEMA if tool.kind == "custom" else tool.parameters or {}
    known = _schema(schema, losses)
    parameters = {
        "type": "object",
        "properties": known.get("properties") or {},
        "required": known.get("required") or [],
        "additionalProperties": known.get("additionalProperties", True),
    }
    return {"name": tool.name, "description": tool.description or "", "parameters": parameters}


def _content(parts: Iterable[Part], losses: Losses) -> Json:
    """Convert parts of a message into Inspect's `content`: a string if there is only one text, otherwise a list.

    Tool calls are left out, because Inspect has a separate field for them.
    """
    documents: list[dict[str, Json]] = []
    for part in parts:
        match part:
            case Text(text=text):
                documents.append({"type": "text", "text": text})
            case RefusalText(text=text):
                documents.append({"type": "text", "text": text, "refusal": True})
            case Reasoning():
                losses.add(Lost.BLOBS, len(part.blobs[1:]))
                blob = part.blobs[0].data if part.blobs else None
                if part.text or blob is None:
                    documents.append({"type": "reasoning", "reasoning": part.text, "signature": blob})
                else:
                    documents.append({"type": "reasoning", "reasoning": blob, "redacted": True})
            case Media(kind="image"):
                documents.append({"type": "image", "image": data_url(part) or ""})
            case Media(kind="file") if (where := data_url(part)) is not None:
                documents.append({"type": "document", "document": where, "filename": part.name or "file"})
            case Media():
                losses.add(Lost.MEDIA)
            case Opaque():
                losses.add(Lost.OPAQUE)
    if not documents:
        return ""
    if len(documents) == 1 and documents[0].keys() == {"type", "text"}:
        return documents[0]["text"]
    return documents


_CHECKS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "description": str,
    "enum": list,
    "pattern": str,
    "minLength": int,
    "maxLength": int,
    "minimum": (int, float),
    "maximum": (int, float),
    "examples": list,
}


def _schema(schema: Json, losses: Losses) -> dict[str, Json]:
    """Return the keywords of `schema`, a JSON Schema, that Inspect supports. Count the other keywords in `losses`."""
    if not isinstance(schema, dict):
        losses.add(SCHEMAS)
        return {}
    found: dict[str, Json] = {}
    for word, value in schema.items():
        is_plain = word == "default" or (word in _CHECKS and isinstance(value, _CHECKS[word]))
        match word, value:
            case _ if is_plain:
                found[word] = value
            case "type", _ if all(name in _TYPES for name in (value if isinstance(value, list) else [value])):
                found[word] = value
            case "required", list() if all(isinstance(name, str) for name in value):
                found[word] = value
            case "properties", dict():
                found[word] = {name: _schema(each, losses) for name, each in value.items()}
            case "anyOf", list():
                found[word] = [_schema(each, losses) for each in value]
            case "additionalProperties", bool():
                found[word] = value
            case ("additionalProperties", _) | ("items", dict()):
                found[word] = _schema(value, losses)
            case (("$schema" | "title"), _):
                pass
            case _:
                losses.add(SCHEMAS)
    return found


ROOT = "solvers"


@dataclass
class Span:
    id: str
    name: str
    type: str | None
    parent: str | None
    depth: int
    start: float
    """Start of the span, in seconds since the epoch. The field `end` has the same unit."""
    end: float
    metadata: dict[str, str] = field(default_factory=dict)


class SpanTree:
    """The spans of a trace in an Inspect log. `spans` contains each span after the span that surrounds it."""

    def __init__(self, turns: Iterable[Turn], segments: Iterable[Segment]) -> None:
        turns = list(turns)
        self._start = min((turn.started_at for turn in turns), default=0.0)
        self._end = max(map(ended_at, turns), default=0.0)
        self.spans: dict[str, Span] = {}
        self.of_turn: dict[str, str] = {}
        """Id of the span that contains each turn, by the turn's id."""
        self._known: dict[tuple[str, str], str] = {}
        """Id of the span of each conversation, by the conversation's id and kind."""
        self._add(ROOT, ROOT, ROOT, None, turns)
        for segment in sorted(segments, key=lambda each: each.conversation.kind != "main"):
            span = self._span_of(segment)
            self.of_turn |= dict.fromkeys((turn.id for turn in segment.turns), span)
            if segment.conversation.kind != "main":
                self._widen(span, segment.turns)

    @property
    def main(self) -> str:
        """Id of the span of the main conversation, or of the outermost span if there is no main conversation."""
        return next((span for (_, kind), span in self._known.items() if kind == "main"), ROOT)

    def _span_of(self, segment: Segment) -> str:
        """Return the id of the span of the segment's conversation. If the conversation has no span yet, create it."""
        conversation, turns = segment.conversation, segment.turns
        key = (conversation.id, conversation.kind)
        if key in self._known:
            return self._known[key]
        mine, main = f"conversation-{len(self._known)}", self.main
        if conversation.kind == "main":
            self._add(mine, "main", "agent", ROOT, ())
        elif conversation.kind != "sub_agent":
            self._add(mine, "side call" if conversation.kind == "side" else "tool", None, main, turns)
        else:
            if (launch := segment.launch) is not None:
                call, around = launch.call, self.of_turn[launch.turn.id]
                main = self._add(f"tool-{call.id}", call.name, "tool", around, turns)
            number = 1 + sum(known == "sub_agent" for _, known in self._known)
            self._add(mine, f"sub-agent {number}", "agent", main, turns)
        self._known[key] = mine
        self.spans[mine].metadata["conversation"] = conversation.id
        return mine

    def _add(
        self, identity: str, name: str, kind: str | None, parent: str | None, turns: Iterable[Turn]
    ) -> str:
        turns = list(turns)
        self.spans[identity] = Span(
            id=identity,
            name=name,
            type=kind,
            parent=parent,
            depth=self.spans[parent].depth + 1 if parent is not None else 0,
            start=turns[0].started_at if parent is not None and turns else self._start,
            end=self._end,
        )
        if parent is not None and turns:
            self.spans[identity].end = self.spans[identity].start
            self._widen(identity, turns)
        return identity

    def _widen(self, identity: str | None, turns: Iterable[Turn]) -> None:
        """Extend the span with the id `identity`, and all spans that contain it, to the end of the last of `turns`."""
        end = max(map(ended_at, turns), default=0.0)
        while identity is not None:
            span = self.spans[identity]
            span.end = max(span.end, end)
            identity = span.parent
