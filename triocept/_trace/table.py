"""Messages kept once.

An agent sends its whole conversation again with every call. Here equal messages become one object, and a
conversation becomes a few ranges of numbers: what a turn costs is what is new in it.

Rules:

1. Equal means equal to the last byte: nothing is lost by sharing.
2. The newest conversation is compared first, message by message; only what differs from it is hashed.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from .._canonical.content import Message

__all__ = ["MessageTable"]

_encode = msgspec.json.Encoder(order="deterministic").encode


class MessageTable:
    """The distinct messages of one rollout, numbered in the order of their arrival."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._number: dict[bytes, int] = {}
        self._latest: list[int] = []

    def add(self, messages: tuple[Message, ...]) -> list[int]:
        """The numbers of these messages; what is new gets a number."""
        known, latest = self.messages, self._latest
        numbers = [
            number if (old := known[number]) is message or old == message else self._find(message)
            for number, message in zip(latest, messages, strict=False)
        ]
        numbers += [self._find(message) for message in messages[len(latest) :]]
        self._latest = numbers
        return numbers

    def intern(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The same messages, as the objects that earlier turns hold."""
        return tuple(self.messages[number] for number in self.add(messages))

    def _find(self, message: Message) -> int:
        digest = blake2b(_encode(message), digest_size=16).digest()
        number = self._number.get(digest)
        if number is None:
            number = self._number[digest] = len(self.messages)
            self.messages.append(message)
        return number


def ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as half-open ranges: `[0, 1, 2, 7]` is `[(0, 3), (7, 8)]`."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
