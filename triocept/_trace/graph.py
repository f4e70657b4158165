"""Which turn continues which: derived from the messages, never recorded.

A turn continues another if its conversation begins with the other's conversation and answer. Real agents do not
send history back byte for byte (measured with Claude Code, opencode, pi, qwen-code, gemini-cli), so messages are
compared by a key that leaves out what they change without meaning it:

* `cache_control` hops from block to block, and with it a string becomes a list of one text block;
* JSON arguments are written anew; reasoning is dropped, or its order changes;
* an empty text comes back as null, "" or not at all;
* Claude Code's `x-anthropic-billing-header` line in the system prompt differs from call to call.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

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
from .._canonical.response import Response

if TYPE_CHECKING:
    from .turn import Turn

__all__ = ["message_key", "parents", "prompt_key"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_NONCE = "x-anthropic-billing-header:"


def message_key(message: Message) -> bytes:
    """A key that is equal for what an agent means to be the same message."""
    role = "system" if message.role == "developer" else message.role
    return _encode([role, message.name, [key for part in message.content if (key := _part_key(part))]])


def prompt_key(messages: Iterable[Message]) -> bytes:
    """A key that is equal for what an agent means to be the same messages."""
    node = b""
    for message in messages:
        node = _step(node, message_key(message))
    return node


def parents(turns: Iterable[Turn]) -> dict[str, str | None]:
    """For each turn's id, that of the turn it continues; None begins a thread of its own."""
    ends: dict[bytes, str] = {}
    found: dict[str, str | None] = {}
    for turn in turns:
        parent: str | None = None
        node = b""
        for message in turn.request.messages:
            node = _step(node, message_key(message))
            parent = ends.get(node, parent)
        found[turn.id] = parent
        if turn.response is not None and turn.outcome == "answered":
            ends[_step(node, message_key(_as_message(turn.response)))] = turn.id
    return found


def _step(node: bytes, key: bytes) -> bytes:
    return blake2b(node + key, digest_size=16).digest()


def _as_message(response: Response) -> Message:
    return Message("assistant", tuple(response.content))


def _part_key(part: Part) -> list[Json] | None:
    match part:
        case Text(text=text):
            return ["text", text] if text and not text.startswith(_NONCE) else None
        case Reasoning():
            return None
        case RefusalText(text=text):
            return ["refusal", text]
        case ToolCall():
            return ["call", part.id, part.name, _arguments(part.arguments)]
        case ToolResult():
            content = [key for inner in part.content if (key := _part_key(inner))]
            return ["result", part.id, part.is_error, content]
        case Media():
            return ["media", part.kind, part.url, part.data]
        case Opaque(dialect=dialect, raw=raw):
            return ["opaque", dialect, _without_cache_control(raw)]


def _arguments(text: str) -> Json:
    try:
        return msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return text


def _without_cache_control(raw: Json) -> Json:
    return {k: v for k, v in raw.items() if k != "cache_control"} if isinstance(raw, dict) else raw
