"""The messages of a rollout as numbers: a conversation is a few ranges, and its digest costs what is new in it."""

from __future__ import annotations

from operator import is_
from typing import Any

import msgspec

from .._canonical.content import Message
from .._canonical.memory import common_head, equal_messages
from . import chain

_RECENT = 16
"""Conversations that are kept, to go on with: more than any agent has at work at one time."""
_value_bytes = msgspec.json.Encoder().encode


class Conversation:
    """One conversation, as far as it has come."""

    __slots__ = ("digests", "given", "ranges", "told")

    def __init__(self, told: list[Any], ranges: list[tuple[int, int]], digests: list[bytes]) -> None:
        self.given: tuple[Message, ...] = ()
        """The messages, of one that was given as messages."""
        self.told = told
        """What it was given as: something for each message, equal where that is."""
        self.ranges = ranges
        """The numbers of their blobs."""
        self.digests = digests
        """That of the first 0, 1, 2, … messages."""

    def says(self, number: int) -> bool:
        """Whether this blob is in it."""
        for start, stop in self.ranges:  # noqa: SIM110 (of each new message: a generator is dearer)
            if start <= number < stop:
                return True
        return False

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

    @property
    def latest(self) -> Conversation:
        """The one that came last; an empty one, where none has."""
        return self._kept[-1] if self._kept else Conversation([], [], [b""])

    def forget(self, conversation: Conversation) -> None:
        """It is about to change."""
        if conversation in self._kept:
            self._kept.remove(conversation)

    def take(self, told: list[Any]) -> Conversation:
        """The conversation that these messages go on with; else the head of the one that is most like it."""
        most, best = 0, None
        for known in reversed(self._kept):
            theirs = known.told
            if most < len(theirs) and most < len(told) and theirs[most] == told[most]:  # else it says no more
                head = common_head(told, theirs)
                if head == len(theirs):
                    self._kept.remove(known)
                    return known
                if head > most:
                    most, best = head, known
        return Conversation([], [], [b""]) if best is None else best.head(most)

    def keep(self, conversation: Conversation, told: list[Any]) -> None:
        """Keep it, now that it holds these messages."""
        conversation.told = told
        self._kept.append(conversation)
        del self._kept[:-_RECENT]


class Said(msgspec.Struct, eq=False, gc=False):
    """A message, however often it is said."""

    message: Message
    digest: bytes
    value: bytes | None
    """As it is written, for the first line of it."""
    number: int = -1
    """That of its first blob; -1: it has none yet."""


class Numbering:
    """Numbers the messages of a rollout so that a conversation that grows is one range of numbers, or a few.

    A message that a conversation says twice has a number for each: else each turn behind it would have two ranges more.
    What a call costs is what is new in it, also where conversations take turns: the last of them are kept. Messages are
    the same where their digests are; one that is the very object of before is known by that.
    """

    def __init__(self) -> None:
        self.blobs: list[Said] = []
        """By number."""
        self._by_digest: dict[bytes, Said] = {}
        self._by_id: dict[int, Said] = {}
        """By the `id` of the message that it holds."""
        self._recent = Recent()

    def of(self, messages: tuple[Message, ...]) -> Conversation:
        """The conversation of these messages. What is new in it has a number now."""
        conversation, told = self._begun(messages)
        for said in told[len(conversation.told) :]:
            number = said.number
            if number < 0 or conversation.says(number):
                number = self._add(said)
            conversation.append(number, said.digest)
        conversation.given = messages
        self._recent.keep(conversation, told)
        return conversation

    def _begun(self, messages: tuple[Message, ...]) -> tuple[Conversation, list[Said]]:
        """What of this conversation was there before, and all that is said in it.

        It is not kept meanwhile: what raises in the middle (an interrupt) leaves none that says something else.
        """
        latest = self._recent.latest
        if len(latest.given) <= len(messages) and all(map(is_, latest.given, messages)):  # nearly always
            told = latest.told + [self._said(message) for message in messages[len(latest.given) :]]
            self._recent.forget(latest)
            return latest, told
        # Where it stands another one stood, and it may be equal to that: then it is not encoded to know it.
        told = [
            said if equal_messages(message, like) else self._said(message)
            for message, like, said in zip(messages, latest.given, latest.told, strict=False)
        ]
        told += [self._said(message) for message in messages[len(told) :]]
        return self._recent.take(told), told

    def _said(self, message: Message) -> Said:
        said = self._by_id.get(id(message))
        if said is None:
            value = _value_bytes(message)
            digest = chain.digest_of(value)
            said = self._by_digest.get(digest)
            if said is None:
                said = Said(message, digest, value)
                self._by_digest[digest] = self._by_id[id(message)] = said
        return said

    def _add(self, said: Said) -> int:
        """A number for one more message."""
        number = len(self.blobs)
        self.blobs.append(said)
        if said.number < 0:
            said.number = number
        return number
