"""The conversations that were told last: which of them a new one goes on from, and how far.

An agent sends its whole conversation again with every call, and several conversations take turns: sub-agents, side
calls. So a few of the latest are kept, and what a new one has in common with its own last telling is passed over at the
speed of C, a few nanoseconds for each message.

Messages that are equal are the same here. Who has to tell `true` from `1` in what Python holds for equal says so
(`tell_apart`): objects count then, and only those that a trace has interned are found again.
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
"""Conversations: more than agents usually run at once. One more costs time, and nothing else."""
_CHANGED = 4
"""Messages at its end that an agent writes anew though they say the same: Claude Code moves its cache mark."""


class Told(Generic[T]):
    """A conversation as it was told last, and what is known of each of its messages."""

    def __init__(self, messages: tuple[Message, ...], known: list[T]) -> None:
        self.messages = messages
        self.known = known


class Recent(Generic[T]):
    """A few conversations, the latest first."""

    def __init__(self) -> None:
        self._told: list[Told[T]] = []
        self._head: Callable[[tuple[Message, ...], tuple[Message, ...]], int] = _equal_head

    def tell_apart(self) -> None:
        """From now on, equal is not enough."""
        self._head = partial(common_head, differ=is_not)

    def go_on(self, messages: tuple[Message, ...]) -> Told[T]:
        """The conversation with these messages; known is only what it has in common with one that was told."""
        told, head = self._best(messages)
        if told is None or head < len(told.messages) - _CHANGED:  # a new one, or one that leaves another
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
    """How many messages at the head are equal; at least those that are the same objects."""
    common = min(len(messages), len(told))
    for end in (common, common - _CHANGED):
        if end > 0 and messages[end - 1] == told[end - 1] and messages[:end] == told[:end]:
            return end + common_head(messages[end:], told[end:], is_not)
    return common_head(messages, told, is_not)
