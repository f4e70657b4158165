"""Recently sent conversations, to find the conversation that a new call continues, and the shared prefix.

An agent sends its whole conversation again with every call, and several conversations alternate: sub-agents, side
calls. So a few of the latest conversations are kept. The prefix that a new call shares with the latest call of its
conversation is skipped at the speed of C: a few nanoseconds for each message.

Equal messages count as the same message here. Code that must distinguish `true` from `1`, which Python compares as
equal, calls `tell_apart`. Then object identity counts, and only messages that a trace has interned are found again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import is_not
from typing import Generic, TypeVar

from .._canonical.content import Message
from .._canonical.memory import common_head

T = TypeVar("T")

_KEPT = 8
"""Maximum conversations kept: more than agents usually run at once. Each further conversation only costs time."""
_CHANGED = 4
"""Messages at the end that an agent may send as new objects with equal content: Claude Code moves its cache mark."""


class Told(Generic[T]):
    """A conversation as last sent, and the data held for each message."""

    def __init__(self, messages: tuple[Message, ...], known: list[T]) -> None:
        self.messages = messages
        self.known = known


class Recent(Generic[T]):
    """A few conversations, the latest first."""

    def __init__(self) -> None:
        self._told: list[Told[T]] = []
        self._head: Callable[[tuple[Message, ...], tuple[Message, ...]], int] = _equal_head

    def tell_apart(self) -> None:
        """Compare messages by identity from now on."""
        self._head = partial(common_head, differ=is_not)

    def go_on(self, messages: tuple[Message, ...]) -> Told[T]:
        """Return the conversation with these messages; its data cover the prefix that it shares with a recent
        conversation."""
        told, head = self._best(messages)
        if (
            told is None or head < len(told.messages) - _CHANGED
        ):  # a new conversation, or one that leaves another
            told = Told(messages, told.known[:head] if told is not None else [])
            del self._told[_KEPT - 1 :]
        else:
            self._told.remove(told)
            del told.known[head:]
            told.messages = messages
        self._told.insert(0, told)
        return told

    def _best(self, messages: tuple[Message, ...]) -> tuple[Told[T] | None, int]:
        best, most = None, 0
        for told in self._told:
            head = self._head(messages, told.messages)
            if head > most:
                best, most = told, head
            if head == len(told.messages) >= len(messages) - _CHANGED:
                break
        return best, most


def _equal_head(messages: tuple[Message, ...], told: tuple[Message, ...]) -> int:
    """Return the number of equal messages at the head; at least the number of identical objects."""
    common = min(len(messages), len(told))
    for end in (common, common - _CHANGED):
        if end > 0 and messages[end - 1] == told[end - 1] and messages[:end] == told[:end]:
            return end + common_head(messages[end:], told[end:], is_not)
    return common_head(messages, told, is_not)
