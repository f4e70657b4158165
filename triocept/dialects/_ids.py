"""Ids: fresh ids, legal replacements for ids that a wire refuses, distinct ids for calls that share one.

Some servers number the calls of each answer from 0, so that ids repeat in one conversation. Anthropic and OpenAI's
Responses refuse such a conversation.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from uuid import uuid4

import msgspec

from .._canonical.content import Message, Part, ToolCall, ToolResult

_LEGAL = re.compile(r"[a-zA-Z0-9_-]+").fullmatch  # Anthropic's rule for tool ids


def fresh_id(prefix: str) -> str:
    """Return a new id, e.g. `fresh_id("call_")`."""
    return prefix + uuid4().hex[:24]


def legal_id(given: str, prefix: str) -> str:
    """Return `given` if it is legal everywhere, else a legal id derived from it: equal for a call and its result."""
    if _LEGAL(given):
        return given
    return prefix + hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:24]


def short_id(given: str, prefix: str, limit: int = 64) -> str:
    """Return `given` if it has 1 to `limit` characters, else an id derived from it: equal for a call and its result."""
    return given if 0 < len(given) <= limit else legal_id(f" {given}" if given else "", prefix)


def distinct_calls(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with new ids for calls that repeat an earlier id, and for their results.

    The first call keeps its id, and one conversation always gets the same ids.
    """
    ids = [call.id for message in messages for call in message.tool_calls]
    if len(ids) == len(set(ids)):
        return messages
    found = _Ids(set(ids))
    return [
        msgspec.structs.replace(message, content=tuple(found.renamed(part) for part in message.content))
        for message in messages
    ]


class _Ids:
    """The ids so far, and the queue of calls that wait for a result, by id."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._seen: set[str] = set()
        self._numbers: dict[str, int] = {}
        """By original id: the number of its latest replacement."""
        self._waiting: dict[str, deque[str]] = {}

    def renamed(self, part: Part) -> Part:
        match part:
            case ToolCall(id=given):
                fresh = self._fresh(given)
                self._waiting.setdefault(given, deque()).append(fresh)
                return msgspec.structs.replace(part, id=fresh)
            case ToolResult(id=given) if self._waiting.get(given):
                return msgspec.structs.replace(part, id=self._waiting[given].popleft())
            case _:
                return part

    def _fresh(self, given: str) -> str:
        if given not in self._seen:
            self._seen.add(given)
            return given
        number = self._numbers.get(given, 2)
        while f"{given}_{number}" in self._taken:
            number += 1
        self._numbers[given] = number
        self._taken.add(f"{given}_{number}")
        return f"{given}_{number}"
