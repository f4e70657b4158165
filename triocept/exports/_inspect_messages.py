"""Messages, tools and answers in Inspect's form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
from ..dialects.kit import CUSTOM_SCHEMA, data_url
from . import _losses as lost
from ._chat import answer_of, is_object, object_arguments
from ._losses import Loss, Losses

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
    """Yield the messages that a message becomes: results of tools are separate messages."""
    for result in message.tool_results:
        yield _result(result, losses)
    rest = [part for part in message.content if not isinstance(part, ToolResult)]
    if message.role == "assistant":
        yield _answer(rest, losses)
    elif rest or not message.content:
        role = "system" if message.role in ("system", "developer") else "user"
        yield {"role": role, "content": _content(rest, losses)}


def output_of(response: Response, losses: Losses) -> dict[str, Json]:
    """Return an answer."""
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
    """Return the output of a call without an answer; Inspect reads the first choice of each output."""
    message = {"role": "assistant", "content": "", "source": "generate"}
    return {"model": model, "choices": [{"message": message, "stop_reason": "unknown"}], "error": error}


def usage_of(usage: Usage) -> dict[str, Json]:
    """Return the token counts. Inspect's input excludes tokens that a cache read or wrote; triocept's includes them."""
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
    """Return the sampling settings."""
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
    return {name: value for name, value in config.items() if value is not None}


def tool_of(tool: Tool, losses: Losses) -> dict[str, Json] | None:
    """Return a tool; None for a tool that its provider runs."""
    if tool.kind == "server":
        losses.add(lost.SERVER_TOOLS)
        return None
    if tool.kind == "custom":
        losses.add(lost.CUSTOM_TOOLS)
    schema = CUSTOM_SCHEMA if tool.kind == "custom" else tool.parameters or {}
    known = _schema(schema, losses)
    parameters = {
        "type": "object",
        "properties": known.get("properties") or {},
        "required": known.get("required") or [],
        "additionalProperties": known.get("additionalProperties", True),
    }
    return {"name": tool.name, "description": tool.description or "", "parameters": parameters}


def _answer(parts: Iterable[Part], losses: Losses) -> dict[str, Json]:
    parts = list(parts)
    calls = [part for part in parts if isinstance(part, ToolCall)]
    rest = [part for part in parts if not isinstance(part, ToolCall)]
    document: dict[str, Json] = {"role": "assistant", "content": _content(rest, losses)}
    if calls:
        document["tool_calls"] = [_call(call, losses) for call in calls]
    return document


def _call(call: ToolCall, losses: Losses) -> dict[str, Json]:
    kind = "custom" if call.kind == "text" else "function"
    arguments: Json = {"input": call.arguments} if call.kind == "text" else object_arguments(call, losses)
    document: dict[str, Json] = {"id": call.id, "function": call.name, "arguments": arguments, "type": kind}
    if call.kind == "json" and not is_object(call.arguments or "{}"):
        document["parse_error"] = "the arguments are no JSON object"
    return document


def _result(result: ToolResult, losses: Losses) -> dict[str, Json]:
    document = {"role": "tool", "content": _content(result.content, losses), "tool_call_id": result.id}
    if result.name is not None:
        document["function"] = result.name
    if result.is_error:
        document["error"] = {"type": "unknown", "message": result.text}
    return document


def _content(parts: Iterable[Part], losses: Losses) -> Json:
    """Return a text if the parts are one text, else a list."""
    documents = [document for part in parts if (document := _part(part, losses)) is not None]
    if not documents:
        return ""
    if len(documents) == 1 and documents[0].keys() == {"type", "text"}:
        return documents[0]["text"]
    return documents


def _part(part: Part, losses: Losses) -> dict[str, Json] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case RefusalText(text=text):
            return {"type": "text", "text": text, "refusal": True}
        case Reasoning():
            losses.add(lost.BLOBS, len(part.blobs[1:]))
            return _reasoning(part)
        case Media(kind="image"):
            return {"type": "image", "image": data_url(part) or ""}
        case Media(kind="file") if (where := data_url(part)) is not None:
            return {"type": "document", "document": where, "filename": part.name or "file"}
        case Media():
            losses.add(lost.MEDIA)
        case Opaque():
            losses.add(lost.OPAQUE)
    return None


def _reasoning(part: Reasoning) -> dict[str, Json]:
    """Return the reasoning; a blob becomes its signature, or stands in its place."""
    blob = part.blobs[0].data if part.blobs else None
    if part.text or blob is None:
        return {"type": "reasoning", "reasoning": part.text, "signature": blob}
    return {"type": "reasoning", "reasoning": blob, "redacted": True}


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
    """Return the part of a JSON Schema that Inspect supports."""
    if not isinstance(schema, dict):
        losses.add(SCHEMAS)
        return {}
    found: dict[str, Json] = {}
    for word, value in schema.items():
        if word == "default" or (word in _CHECKS and isinstance(value, _CHECKS[word])):
            found[word] = value
        elif word in _READERS and (read := _READERS[word](value, losses)) is not None:
            found[word] = read
        elif word not in ("$schema", "title"):
            losses.add(SCHEMAS)
    return found


def _types(value: Json, losses: Losses) -> Json:
    names = value if isinstance(value, list) else [value]
    return value if all(name in _TYPES for name in names) else None


def _names(value: Json, losses: Losses) -> Json:
    return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else None


def _each_named(value: Json, losses: Losses) -> Json:
    return {name: _schema(each, losses) for name, each in value.items()} if isinstance(value, dict) else None


def _each(value: Json, losses: Losses) -> Json:
    return [_schema(each, losses) for each in value] if isinstance(value, list) else None


def _further(value: Json, losses: Losses) -> Json:
    return value if isinstance(value, bool) else _schema(value, losses)


def _items(value: Json, losses: Losses) -> Json:
    return _schema(value, losses) if isinstance(value, dict) else None


_READERS = {
    "type": _types,
    "required": _names,
    "properties": _each_named,
    "anyOf": _each,
    "additionalProperties": _further,
    "items": _items,
}
