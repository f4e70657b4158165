"""When two messages are the same.

Real agents do not send history back byte for byte, so messages are compared by a key that leaves out what they change
without meaning it (measured with Claude Code, opencode, pi, qwen-code, gemini-cli, LangChain, agno, kimi-code):

* `cache_control` hops from block to block, also within a block, and with it a string becomes a list of one text block;
* JSON arguments are written anew, whole numbers as floats too; reasoning is dropped, or its order changes;
* an empty text comes back as null, "" or not at all, and a text that was streamed in pieces as so many: Google's SDK
  sends each increment back as a message of its own;
* the ids of calls are dropped (LangChain's and agno's Gemini) or made anew: the order says which result is whose;
* the assistant gets a name (LangChain and LangGraph, for an agent that has one);
* Claude Code's `x-anthropic-billing-header` line in the system prompt differs from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby

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

_encode = msgspec.json.Encoder(order="deterministic").encode
NONCE = "x-anthropic-billing-header:"
"""How a text begins that means nothing."""
_LEVELS = 8
"""Of blocks in blocks, that are looked at for cache marks: more than any dialect has."""
_DEEP = 250
"""Levels of arguments beyond which they are a text: what is read so deep may be too deep to be written, or changed."""


def message_key(message: Message) -> bytes:
    """16 bytes that are equal for what an agent means to be the same message."""
    role = "system" if message.role == "developer" else message.role
    name = None if role == "assistant" else message.name
    keys = [key for part in message.content if (key := _part_key(part))]
    if len(keys) > 1:
        keys = _joined_texts(keys)
    return blake2b(_encode([role, name, keys]), digest_size=16).digest()


def joined(messages: Sequence[Message]) -> Message:
    """What the model says several times in a row, said once."""
    return Message("assistant", tuple(part for message in messages for part in message.content))


def _joined_texts(keys: list[list[Json]]) -> list[list[Json]]:
    found: list[list[Json]] = []
    for kind, group in groupby(keys, key=lambda key: key[0]):
        same = list(group)
        found += [["text", "".join(key[1] for key in same)]] if kind == "text" else same
    return found


def _part_key(part: Part) -> list[Json] | None:
    match part:
        case Text(text=text):
            return ["text", text] if text and not text.startswith(NONCE) else None
        case Reasoning():
            return None
        case RefusalText(text=text):
            return ["refusal", text]
        case ToolCall():
            return ["call", part.name, arguments_value(part.arguments)]
        case ToolResult():
            content = [key for inner in part.content if (key := _part_key(inner))]
            return ["result", part.is_error, content]
        case Media():
            return ["media", part.kind, part.url, part.data]
        case Opaque(dialect=dialect, raw=raw):
            return ["opaque", dialect, unmarked(raw)]


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


_decode = msgspec.json.Decoder(float_hook=_number).decode


def arguments_value(text: str) -> Json:
    """The arguments of a call as JSON; as they are, where they are none, or nested too deeply."""
    try:
        value = _decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return text
    return text if text.count("[") + text.count("{") > _DEEP and _is_deep(value) else value


def _is_deep(value: Json) -> bool:
    level = [value]
    for _ in range(_DEEP):
        held = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in held for inner in (each.values() if isinstance(each, dict) else each)]
    return bool(level)


def unmarked(block: Json, levels: int = _LEVELS) -> Json:
    """Return a block that only its own dialect knows without cache marks: on it, and on the blocks in its content (of a
    search result, or of a document whose source is content)."""
    if not isinstance(block, dict) or not levels:
        return block
    plain = {name: value for name, value in block.items() if name != "cache_control"}
    if isinstance(content := plain.get("content"), list):
        plain["content"] = [unmarked(inner, levels - 1) for inner in content]
    if isinstance(source := plain.get("source"), dict):
        plain["source"] = unmarked(source, levels - 1)
    return plain
