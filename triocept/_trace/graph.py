"""Which turn continues which: derived from the messages, never recorded.

A turn continues another if its conversation begins with the other's conversation and answer. Real agents do not
send history back byte for byte (measured with Claude Code, opencode, pi, qwen-code, gemini-cli), so messages are
compared by a key that leaves out what they change without meaning it:

* `cache_control` hops from block to block, and with it a string becomes a list of one text block;
* JSON arguments are written anew; reasoning is dropped, or its order changes;
* an empty text comes back as null, "" or not at all, and a text that was streamed in pieces as so many: Google's SDK
  sends each increment back as a message of its own;
* Claude Code's `x-anthropic-billing-header` line in the system prompt differs from call to call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby
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

if TYPE_CHECKING:
    from .turn import Turn

__all__ = ["message_key", "parents", "prompt_key"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_NONCE = "x-anthropic-billing-header:"


def message_key(message: Message) -> bytes:
    """A key that is equal for what an agent means to be the same message."""
    role = "system" if message.role == "developer" else message.role
    keys = [key for part in message.content if (key := _part_key(part))]
    return _encode([role, message.name, _joined_texts(keys)])


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
        node = before = b""
        message = None
        for message in _joined_messages(turn.request.messages):
            before, node = node, _step(node, message_key(message))
            parent = ends.get(node, parent)
        found[turn.id] = parent
        if turn.response is not None and turn.outcome == "answered":
            answer = Message("assistant", tuple(turn.response.content))
            if message is not None and message.role == "assistant":  # it goes on with what stands there
                node, answer = before, _joined((message, answer))
            ends[_step(node, message_key(answer))] = turn.id
    return found


def _joined_messages(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages; what the model says several times in a row, it says once."""
    for role, group in groupby(messages, key=lambda message: message.role):
        same = tuple(group)
        yield from same if role != "assistant" or len(same) == 1 else (_joined(same),)


def _joined(messages: tuple[Message, ...]) -> Message:
    content = tuple(part for message in messages for part in message.content)
    return Message("assistant", content, name=messages[0].name)


def _joined_texts(keys: list[list[Json]]) -> list[list[Json]]:
    joined: list[list[Json]] = []
    for kind, group in groupby(keys, key=lambda key: key[0]):
        same = list(group)
        joined += [["text", "".join(key[1] for key in same)]] if kind == "text" else same
    return joined


def _step(node: bytes, key: bytes) -> bytes:
    return blake2b(node + key, digest_size=16).digest()


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
