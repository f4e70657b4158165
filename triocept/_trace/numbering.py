"""The messages of a rollout as numbers: a conversation is a few ranges, and its digest costs what is new in it."""

from __future__ import annotations

from collections.abc import Callable

from .._canonical.content import Message
from .._canonical.head import equal_head
from . import chain
from .table import MessageTable

__all__ = ["Conversation", "Numbering", "Recent"]

_RECENT = 16
"""Conversations that are kept, to go on with: more than any agent has at work at one time."""


class Conversation:
    """One conversation, as far as it has come."""

    __slots__ = ("digests", "ranges", "told")

    def __init__(self, told: list[int], ranges: list[tuple[int, int]], digests: list[bytes]) -> None:
        self.told = told
        """What it was given as: numbers, one for each message."""
        self.ranges = ranges
        """The numbers of their blobs."""
        self.digests = digests
        """That of the first 0, 1, 2, … messages."""

    def says(self, number: int) -> bool:
        """Whether this blob is in it."""
        return any(start <= number < stop for start, stop in self.ranges)

    def append(self, number: int, digest: bytes) -> None:
        """One more message."""
        if self.ranges and self.ranges[-1][1] == number:
            self.ranges[-1] = (self.ranges[-1][0], number + 1)
        else:
            self.ranges.append((number, number + 1))
        self.digests.append(chain.link(self.digests[-1], digest))

    def head(self, length: int) -> Conversation:
        """Its first messages alone."""
        ranges: list[tuple[int, int]] = []
        left = length
        for start, stop in self.ranges:
            if left <= 0:
                break
            ranges.append((start, min(stop, start + left)))
            left -= stop - start
        return Conversation(self.told[:length], ranges, self.digests[: length + 1])


class Recent:
    """The conversations that came last."""

    def __init__(self) -> None:
        self._kept: list[Conversation] = []
        """The latest at the end."""

    def take(self, told: list[int]) -> Conversation:
        """The conversation that these messages go on with; else the head of the one that is most like it."""
        most, best = 0, None
        for known in reversed(self._kept):
            theirs = known.told
            if most < len(theirs) and most < len(told) and theirs[most] == told[most]:  # else it says no more
                head = equal_head(told, theirs)
                if head == len(theirs):
                    self._kept.remove(known)
                    return known
                if head > most:
                    most, best = head, known
        return Conversation([], [], [b""]) if best is None else best.head(most)

    def keep(self, conversation: Conversation, told: list[int]) -> None:
        """Keep it, now that it holds these messages."""
        conversation.told = told
        self._kept.append(conversation)
        del self._kept[:-_RECENT]


class Numbering:
    """Numbers the messages of a rollout so that a conversation that grows is one range of numbers, or a few.

    A message that a conversation says twice has a number for each: else each turn behind it would have two ranges more.
    What a call costs is what is new in it, also where conversations take turns: the last of them are kept.
    """

    def __init__(self) -> None:
        self._table = MessageTable()
        self.messages: list[Message] = []
        """By number."""
        self.same: list[int | None] = []
        """By number: that of the same message before it."""
        self._first: dict[int, int] = {}
        """By a message's number in the table: its first one here."""
        self._recent = Recent()

    def forget_conversations(self) -> None:
        """Ask for every digest again. The numbers stay."""
        self._recent = Recent()

    def of(self, messages: tuple[Message, ...], digest_of: Callable[[int], bytes]) -> Conversation:
        """The conversation of these messages; `digest_of` gives the digest of the message of a number."""
        told = self._table.add(messages)
        conversation = self._recent.take(told)
        for number in told[len(conversation.told) :]:
            ours = self._first.get(number)
            if ours is None or conversation.says(ours):
                ours = self._add(number, ours)
            conversation.append(ours, digest_of(ours))
        self._recent.keep(conversation, told)
        return conversation

    def _add(self, number: int, same: int | None) -> int:
        """A number for one more message."""
        ours = len(self.messages)
        self.messages.append(self._table.messages[number])
        self.same.append(same)
        if same is None:
            self._first[number] = ours
        return ours
