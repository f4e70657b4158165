"""Estimate the token counts of responses without usage.

Anthropic's API requires token counts (Claude Code shows the used context by `message_start.usage.input_tokens`), and
`count_tokens` needs a count before any model has read the prompt. A token is estimated as four characters, the rule of
thumb on OpenAI's and Anthropic's own help pages. An image counts as 1,600 tokens, the maximum that Anthropic documents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from .content import Media, Message, Opaque, Part, Reasoning, RefusalText, Text, ToolCall, ToolResult
from .memory import shared_head
from .request import Request, Tool
from .response import Response, Usage

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MEDIA = 1600
_encode = msgspec.json.Encoder().encode


class Estimator:
    """An estimator of the prompt tokens of successive calls of one agent.

    Messages at the beginning that did not change since the previous call are not counted again. The estimator remembers
    only the conversation of the latest call.
    """

    def __init__(self) -> None:
        self.needed: bool = False
        """True after the first estimate for an answer without usage. Then the tokens of each later prompt are estimated
        when the prompt arrives, so that no answer waits for the estimate."""
        self._messages = _Counted[Message](_said)
        self._tools = _Counted[Tool](lambda tool: len(_encode(tool)))

    def input_tokens(self, request: Request) -> int:
        characters = self._messages.count(request.messages) + self._tools.count(request.tools)
        return max(1, characters // CHARACTERS_PER_TOKEN)


def usage_after(prompt: int, response: Response) -> Usage:
    """Return the estimated token counts of an answer to a prompt of `prompt` tokens."""
    output = max(1, _said(response) // CHARACTERS_PER_TOKEN)
    return msgspec.structs.replace(_ESTIMATE, input_tokens=prompt, output_tokens=output)


def estimate_input_tokens(request: Request) -> int:
    return Estimator().input_tokens(request)


def estimate_streamed(request: Request, characters: int) -> Usage:
    output = max(1, characters // CHARACTERS_PER_TOKEN)
    return msgspec.structs.replace(
        _ESTIMATE, input_tokens=estimate_input_tokens(request), output_tokens=output
    )


def estimate_usage(request: Request, response: Response) -> Usage:
    return usage_after(estimate_input_tokens(request), response)


_ESTIMATE = Usage(input_tokens=0, output_tokens=0, estimated=True)
"""Template of all estimates. Copying this template is faster than calling the class, which checks the names of
arguments."""


class _Counted(Generic[T]):
    """A counter of the characters in a list of items.

    Items at the beginning of the list that did not change since the previous count are not counted again.
    """

    def __init__(self, count: Callable[[T], int]) -> None:
        self._count = count
        self._items: tuple[T, ...] = ()
        self._sum = 0

    def count(self, items: tuple[T, ...]) -> int:
        if items is self._items:  # the usual case for tools
            return self._sum
        known = shared_head(items, self._items)
        gone = self._items[known:]
        if len(gone) > known:  # then counting again is less work than subtracting
            known, gone, self._sum = 0, (), 0
        self._sum += sum(map(self._count, items[known:])) - sum(map(self._count, gone))
        self._items = items
        return self._sum


def _said(noun: Message | Response) -> int:
    characters = 0
    for part in noun.content:
        characters += len(part.text) if type(part) is Text else _part(part)  # nearly all parts are texts
    return characters


def _part(part: Part) -> int:
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
