"""What a person reads of a message: the texts of its parts."""

from __future__ import annotations

import msgspec

from .._canonical.content import (
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

__all__ = ["text_of", "texts_of"]

_encode = msgspec.json.Encoder(order="deterministic").encode


def text_of(message: Message) -> str:
    """The texts of all its parts, a part on a line of its own."""
    return "\n".join(texts_of(message))


def texts_of(message: Message) -> list[str]:
    """The text of each part: of a call its name and arguments, of what is no text its kind or its JSON."""
    return [_text(part) for part in message.content]


def _text(part: Part) -> str:
    match part:
        case Text(text=text) | RefusalText(text=text) | Reasoning(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"{name}({arguments})"
        case ToolResult(content=content):
            return "\n".join(map(_text, content))
        case Media():
            return f"[{part.kind}: {part.name or part.url or part.media_type or 'inline'}]"
        case Opaque(raw=raw):
            return _encode(raw).decode()
