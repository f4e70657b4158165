"""Messages: system, developer, user, assistant, tool, and the legacy function.

Rules:

1. One wire message is one canonical message, with reasoning, text, refusal and tool calls in this order: the wire has
   fields for them, not a list.
2. Results of tools come right after the calls, one message each; the other parts of their turn come after all results.
3. Most servers refuse an image in a result: unless the agent itself put it there, it goes into a user message after
   the results.
4. A legacy `function` message is the result of the call with its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from reprlib import repr as short
from typing import get_args

from ..._canonical.content import (
    Json,
    Media,
    Message,
    Part,
    Reasoning,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ...errors import DialectError
from .._documents import Fields, merged, plain_message
from .._ids import legal_id
from .._pairing import results_first
from .names import NAME
from .parts import parse_content, parse_result_content, render_content
from .reasoning import render_reasoning, take_reasoning
from .tools import parse_call, parse_function_call, render_call

_ROLES: dict[str, Role] = {role: role for role in get_args(Role) if role != "tool"}


def parse_message(value: Json, path: str) -> Message:
    """Return the canonical message of a wire message."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role in ("tool", "function"):
        return _parse_result(fields, role)
    if role not in _ROLES:
        raise DialectError(f"there is no role {short(role)}", path=fields.at("role"))
    parts = assistant_parts(fields) if role == "assistant" else _content(fields)
    return Message(_ROLES[role], parts, fields.text("name"), fields.rest())


def assistant_parts(fields: Fields) -> tuple[Part, ...]:
    """Return the model's parts from the fields of its message."""
    parts: list[Part] = []
    reasoning = take_reasoning(fields)
    if reasoning:
        parts.append(reasoning)
    parts += _content(fields)
    refusal = fields.text("refusal")
    if refusal:
        parts.append(RefusalText(refusal))
    parts += [parse_call(item, path) for path, item in fields.items("tool_calls")]
    parts += parse_function_call(fields)
    return tuple(parts)


def render_messages(messages: Iterable[Message], *, same_dialect: bool) -> list[Json]:
    """Return the messages of a request.

    Args:
        messages: the conversation.
        same_dialect: True if the conversation came in this dialect.
    """
    return [
        _render_result(said, same_dialect=same_dialect)
        if isinstance(said, ToolResult)
        else _render_message(message, said, same_dialect=same_dialect)
        for message, said in results_first(messages, None if same_dialect else _media_of)
    ]


def _content(fields: Fields) -> tuple[Part, ...]:
    return parse_content(fields.take("content"), fields.at("content"))


def _parse_result(fields: Fields, role: str) -> Message:
    content = parse_result_content(fields.take("content"), fields.at("content"))
    name = fields.text("name")
    identity = f"call_{name}" if role == "function" else fields.text("tool_call_id") or ""
    return Message("tool", (ToolResult(id=identity, content=content, name=name, extra=fields.rest()),))


def _render_message(message: Message, parts: Sequence[Part], *, same_dialect: bool) -> Json:
    role = "user" if message.role == "tool" else message.role
    document: dict[str, Json] = {"role": role}
    if role == "assistant":
        document |= _render_assistant(parts, same_dialect=same_dialect)
    else:
        document["content"] = render_content(parts, same_dialect=same_dialect)
    if message.name is not None:
        document["name"] = message.name
    return merged(document, message.extra) if same_dialect and message.extra else document


def _render_assistant(parts: Sequence[Part], *, same_dialect: bool) -> dict[str, Json]:
    calls = [render_call(part, same_dialect=same_dialect) for part in parts if isinstance(part, ToolCall)]
    content = render_content(parts, same_dialect=same_dialect)
    # Strict servers refuse null without calls; others refuse an empty text with calls.
    document: dict[str, Json] = {"content": content if content or not calls else None}
    document |= render_reasoning(_replayable(parts), same_dialect=same_dialect)
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalText))
    if refusal:
        document["refusal"] = refusal
    if calls:
        document["tool_calls"] = calls
    return document


def _replayable(parts: Sequence[Part]) -> list[Reasoning]:
    """Return the reasoning without parts that another provider signed: they are useless at this one."""
    found = (part for part in parts if isinstance(part, Reasoning))
    return [part for part in found if all(blob.dialect == NAME for blob in part.blobs)]


def _render_result(result: ToolResult, *, same_dialect: bool) -> Json:
    parts = [part for part in result.content if same_dialect or not isinstance(part, Media)]
    content = render_content(parts, same_dialect=same_dialect)
    if not content and result.content and not same_dialect:
        content = "(see below)"
    if result.is_error:
        content = (
            f"Error: {content}"
            if isinstance(content, str)
            else [{"type": "text", "text": "Error:"}, *content]
        )
    document = {"role": "tool", "tool_call_id": result.id or legal_id("", "call_"), "content": content}
    if result.name is not None:
        document["name"] = result.name
    return merged(document, result.extra) if same_dialect and result.extra else document


def _media_of(result: ToolResult) -> list[Part]:
    media = [part for part in result.content if isinstance(part, Media)]
    return [Text(f"Result of tool call {result.id}:"), *media] if media else []
