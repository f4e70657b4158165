"""The prompt: text, or token ids.

Rules:

1. A text, or a list of one text, is one message of the user. Token ids (or a list of one list of them) are one opaque
   part of a message, for only this dialect supports them; they are written as one list. Another dialect cannot express
   them, and refuses such a request (see `_portable`).
2. One exchange has one answer: several prompts are refused.
3. A conversation of another dialect becomes the texts of system and user, separated by blank lines. If it contains
   messages of the assistant, each turn begins with its speaker, and the prompt ends with "Assistant:".
4. Tools, calls, results and media cannot be expressed in a text: they raise an error, and are never dropped silently.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import (
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
from ...errors import DialectError
from .._documents import kind_of, read_list, read_text
from .names import NAME

_SPEAKERS = {"user": "User", "assistant": "Assistant"}


def parse_prompt(value: Json, path: str) -> Message:
    """Return the prompt as one message."""
    if value is None:
        raise DialectError("is missing", path=path)
    if isinstance(value, str):
        return _message(value)
    items = read_list(value, path)
    if not items:
        raise DialectError("must not be empty", path=path)
    if _are_ids(items):
        return Message("user", (Opaque(NAME, items),))
    if len(items) > 1 and all(isinstance(item, str | list) for item in items):
        raise DialectError(f"only one prompt can be answered, not {len(items)}", path=path)
    first, where = items[0], f"{path}[0]"
    if isinstance(first, list) and first and _are_ids(first):
        return Message("user", (Opaque(NAME, first),))
    if isinstance(first, str) and len(items) == 1:
        return _message(first)
    is_right = _is_text if isinstance(first, str) else _is_id
    wrong = next((number for number, item in enumerate(items) if not is_right(item)), 0)
    where = f"{path}[{wrong}]"
    if isinstance(items[wrong], list):
        raise DialectError("must be a list of token ids, and not empty", path=where)
    wanted = "a string" if isinstance(first, str) else "a string or a token id"
    raise DialectError(f"must be {wanted}, not {kind_of(items[wrong])}", path=where)


def render_prompt(messages: Sequence[Message]) -> Json:
    """Return the prompt for these messages.

    Raises:
        DialectError: a text cannot express them.
    """
    if len(messages) == 1 and len(messages[0].content) == 1:
        (part,) = messages[0].content
        if isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.raw, list):
            return part.raw
    return text_of(messages)


def text_of(messages: Sequence[Message]) -> str:
    """Return the text of the prompt; empty if it is token ids."""
    turns = [(message.role, _text(message, f"messages[{number}]")) for number, message in enumerate(messages)]
    turns = [(role, text) for role, text in turns if text]
    if all(role != "assistant" for role, _ in turns):
        return "\n\n".join(text for _, text in turns)
    lines = [f"{_SPEAKERS[role]}: {text}" if role in _SPEAKERS else text for role, text in turns]
    return "\n\n".join([*lines, "Assistant:"])


def _message(text: str) -> Message:
    return Message("user", (Text(read_text(text, "prompt")),) if text else ())


def _are_ids(items: list[Json]) -> bool:
    return all(_is_id(item) for item in items)


def _is_text(item: Json) -> bool:
    return isinstance(item, str)


def _is_id(item: Json) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _text(message: Message, path: str) -> str:
    return "".join(_part(part, f"{path}.content[{number}]") for number, part in enumerate(message.content))


def _part(part: Part, path: str) -> str:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case ToolCall() | ToolResult() | Media():
            kind = {ToolCall: "a tool call", ToolResult: "a tool's result", Media: "media"}[type(part)]
            raise DialectError(f"{kind} cannot be said in a completions prompt", path=path)
        case Reasoning() | Opaque():
            return ""
