"""Replace tool names that a provider refuses in requests, and restore the original names in the provider's answers.

Rules:

1. OpenAI and Anthropic allow up to 64 characters: letters, digits, `_` and `-`. Gemini also allows `.` and `:`, but no
   leading digit. An allowed name is not changed.
2. Any other name is replaced by its allowed characters and a hash of the whole name, so that two names never collide. A
   name has the same replacement in all requests of a conversation.
3. In the provider's answer, the agent's own names are restored before other code reads the answer.
"""

from __future__ import annotations

import itertools
import re
from hashlib import sha256
from typing import TypeVar

import msgspec

from .._canonical.content import Message, Part, ToolCall, ToolResult
from .._canonical.events import Event, PartStart
from .._canonical.request import Request, Tool
from .._canonical.response import Response
from .base import Dialect

T = TypeVar("T", bound=Tool | ToolCall | ToolResult)

_LENGTH, _HASH = 64, 8
_OTHERS = re.compile(r"[^a-zA-Z0-9_-]")


class ToolNames:
    """A mapping between an agent's tool names and names that a provider of another dialect accepts.

    `request` returns the request with the provider's names. `response` and `event` restore the agent's names.
    """

    def __init__(self, request: Request, dialect: Dialect) -> None:
        allowed = re.compile(dialect.tool_names).fullmatch
        names = {tool.name for tool in request.tools if tool.kind != "server"}
        names |= {_name_of(part) or "" for message in request.messages for part in message.content} - {""}
        self._there: dict[str, str] = {}
        for name in itertools.filterfalse(allowed, names):
            kept = _OTHERS.sub("_", name)
            if not kept or kept[0].isdigit() or kept[0] == "-":
                kept = f"_{kept}"
            digest = sha256(name.encode("utf-8", "replace")).hexdigest()[:_HASH]
            self._there[name] = f"{kept[: _LENGTH - _HASH - 1]}_{digest}"
        self._here = {there: name for name, there in self._there.items()}

    def request(self, request: Request) -> Request:
        """Return the request with tool names that the provider accepts."""
        if not self._there:
            return request
        choice = request.tool_choice
        if choice is not None and choice.name in self._there:
            choice = msgspec.structs.replace(choice, name=self._there[choice.name])
        messages: list[Message] = []
        for message in request.messages:
            if any(_name_of(part) in self._there for part in message.content):
                content = tuple(
                    _renamed(part, self._there)
                    if isinstance(part, ToolCall | ToolResult) and part.name
                    else part
                    for part in message.content
                )
                message = msgspec.structs.replace(message, content=content)
            messages.append(message)
        return msgspec.structs.replace(
            request,
            tools=tuple(_renamed(tool, self._there) for tool in request.tools),
            tool_choice=choice,
            messages=tuple(messages),
        )

    def response(self, response: Response) -> Response:
        if not self._here:
            return response
        content = tuple(
            _renamed(part, self._here) if isinstance(part, ToolCall) else part for part in response.content
        )
        return msgspec.structs.replace(response, content=content)

    def event(self, event: Event) -> Event:
        if self._here and isinstance(event, PartStart) and isinstance(event.part, ToolCall):
            return PartStart(event.index, _renamed(event.part, self._here))
        return event


def _name_of(part: Part) -> str | None:
    return part.name if isinstance(part, ToolCall | ToolResult) else None


def _renamed(named: T, names: dict[str, str]) -> T:
    return msgspec.structs.replace(named, name=names.get(named.name or "", named.name))
