"""An honest guess of token counts, where nobody counted.

Anthropic's wire must have numbers (`message_start.usage.input_tokens` feeds Claude Code's context meter), and
`count_tokens` wants one before any model has read the prompt. Four characters to a token is the rule of thumb of
OpenAI's and Anthropic's own help pages; an image counts as 1,600 tokens, the ceiling that Anthropic documents.
"""

from __future__ import annotations

import msgspec

from .content import Media, Message, Opaque, Part, Reasoning, RefusalText, Text, ToolCall, ToolResult
from .request import Request
from .response import Response, Usage

__all__ = ["estimate_input_tokens", "estimate_usage"]

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MEDIA = 1600
_encode = msgspec.json.Encoder().encode


def estimate_input_tokens(request: Request) -> int:
    """About how many tokens this prompt has, tools included; at least 1."""
    characters = sum(_message(message) for message in request.messages)
    characters += sum(len(_encode(tool)) for tool in request.tools)
    return max(1, characters // CHARACTERS_PER_TOKEN)


def estimate_usage(request: Request, response: Response) -> Usage:
    """About what this call cost, marked as an estimate."""
    characters = sum(_part(part) for part in response.content)
    return Usage(
        input_tokens=estimate_input_tokens(request),
        output_tokens=max(1, characters // CHARACTERS_PER_TOKEN),
        estimated=True,
    )


def _message(message: Message) -> int:
    return sum(_part(part) for part in message.content)


def _part(part: Part) -> int:
    if type(part) is Text:  # nearly all of them
        return len(part.text)
    match part:
        case Text(text=text) | Reasoning(text=text) | RefusalText(text=text):
            return len(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + len(arguments)
        case ToolResult(content=content):
            return sum(_part(inner) for inner in content)
        case Media():
            return TOKENS_PER_MEDIA * CHARACTERS_PER_TOKEN
        case Opaque(raw=raw):
            return len(_encode(raw))
