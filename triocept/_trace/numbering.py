"""Number the distinct messages of a rollout. A trace file contains each conversation as ranges of these numbers."""

from __future__ import annotations

import msgspec

from .._canonical.content import Message
from .._canonical.memory import equal_messages, is_exact, shared_head
from . import chain

_RECENT = 16
"""Maximum conversations in memory, for later calls. No known agent alternates between more conversations."""
_value_bytes = msgspec.json.Encoder().encode


class Conversation:
    """The messages of one conversation that were recorded so far, and the numbers of their blobs."""

    __slots__ = ("digests", "given", "inexact", "items", "ranges")

    def __init__(self, items: list[Said], ranges: list[tuple[int, int]], digests: list[bytes]) -> None:
        self.given: tuple[Message, ...] = ()
        """The messages of the latest call of the conversation."""
        self.inexact: list[int] = []
        """Indexes of the messages that could be equal by `==` to a message with another JSON encoding (see
        `Said.is_exact`)."""
        self.items = items
        """The `Said` object of each message. Equal messages share one object."""
        self.ranges = ranges
        """Numbers of the messages' blobs, as half-open ranges."""
        self.digests = digests
        """Values of the hash chain over the digests of the messages: after 0, 1, 2, … messages."""

    def contains(self, number: int) -> bool:
        for start, stop in self.ranges:  # noqa: SIM110 (of each new message: a generator is dearer)
            if start <= number < stop:
                return True
        return False

    def begins(self, messages: tuple[Message, ...]) -> bool:
        """Return True if `messages` begin with exactly the messages of the conversation's latest call.

        The comparison of tuples takes a fifth of the time of comparing the messages one by one with `is`.
        """
        given = self.given
        return given == messages[: len(given)] and all(given[at] is messages[at] for at in self.inexact)

    def shared_head(self, messages: tuple[Message, ...]) -> int:
        """Return a number of messages at the beginning of `messages` that are also at the beginning of `given`."""
        given = self.given
        head = shared_head(messages, given)
        return head if all(given[at] is messages[at] for at in self.inexact if at < head) else 0

    def append(self, said: Said, number: int) -> None:
        """Add a message to the end of the conversation. `number` is the number of a blob with this message."""
        if not said.is_exact:
            self.inexact.append(len(self.items))
        self.items.append(said)
        if (ranges := self.ranges) and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
        self.digests.append(chain.link(self.digests[-1], said.digest))

    def head(self, length: int) -> Conversation:
        """Return a new conversation of the first `length` messages."""
        ranges = self.ranges[:]
        left = len(self.items) - length
        while left > 0:  # a conversation whose last message is often rewritten has many ranges
            start, stop = ranges.pop()
            if stop - start > left:
                ranges.append((start, stop - left))
            left -= stop - start
        head = Conversation(self.items[:length], ranges, self.digests[: length + 1])
        head.inexact = [at for at in self.inexact if at < length]
        return head


class Said(msgspec.Struct, eq=False, gc=False):
    """A message of the rollout. Equal messages share one `Said`.

    The content of a message is written to the file once, even if an agent sends the message many times.
    """

    message: Message
    digest: bytes
    value: bytes | None
    """The message as JSON. None after the message's first blob line was made, because the JSON is no longer needed."""
    number: int = -1
    """Number of the message's first blob (the line in the file that contains the message); -1 if the message has no
    blob yet."""
    is_exact: bool = True
    """True if each message that is equal by `==` has the same encoding. False if the message contains values from JSON,
    because 1 equals `True` in Python."""


class Numbering:
    """Assigns numbers to the messages of a rollout.

    New messages get consecutive numbers, so that a growing conversation consists of few ranges.

    If a conversation contains a message twice, the message gets two numbers. With only one number, each later turn
    would have two more ranges. The latest conversations stay in memory, so that a call takes time only for its new
    messages, even if conversations alternate. Messages are equal if their digests are equal. For an identical object,
    no digest is computed.
    """

    def __init__(self) -> None:
        self.blobs: list[Said] = []
        """Messages by blob number: the item at index n is the message of blob n."""
        self._by_digest: dict[bytes, Said] = {}
        self._by_id: dict[int, Said] = {}
        """Messages by the `id` of the message object."""
        self._recent: list[Conversation] = []
        """The latest conversations, the latest at the end."""

    def of(self, messages: tuple[Message, ...]) -> Conversation:
        """Return the conversation that consists of `messages`. New messages get the next numbers."""
        # Drop the known beginning meanwhile: then an exception here (an interrupt) leaves no wrong conversation.
        latest = self._recent[-1] if self._recent else Conversation([], [], [b""])
        if latest.begins(messages):  # nearly always
            new = [self._said(message) for message in messages[len(latest.given) :]]
            del self._recent[-1:]
            conversation = latest
        else:
            # A message that equals the previous call's message at the same position need not be encoded.
            head = latest.shared_head(messages)
            items = latest.items[:head]
            items += [
                said if message is like or equal_messages(message, like) else self._said(message)
                for message, like, said in zip(
                    messages[head:], latest.given[head:], latest.items[head:], strict=False
                )
            ]
            items += [self._said(message) for message in messages[len(items) :]]
            conversation = self._take(items)
            new = items[len(conversation.items) :]
        for said in new:
            number = said.number
            if number < 0 or conversation.contains(number):
                number = len(self.blobs)
                self.blobs.append(said)
                if said.number < 0:
                    said.number = number
            conversation.append(said, number)
        conversation.given = messages
        self._recent.append(conversation)
        del self._recent[:-_RECENT]
        return conversation

    def _take(self, items: list[Said]) -> Conversation:
        """Return the recent conversation that `items` continue. Remove this conversation from the recent conversations.

        If `items` continue no recent conversation, return a new conversation. It consists of the longest beginning that
        `items` have in common with a recent conversation.
        """
        most, best = 0, None
        for known in reversed(self._recent):
            others = known.items
            if most < len(others) and most < len(items) and others[most] == items[most]:  # else not longer
                head = shared_head(items, others)
                if head == len(others):
                    self._recent.remove(known)
                    return known
                if head > most:
                    most, best = head, known
        return Conversation([], [], [b""]) if best is None else best.head(most)

    def _said(self, message: Message) -> Said:
        said = self._by_id.get(id(message))
        if said is None:
            value = _value_bytes(message)
            digest = chain.digest_of(value)
            said = self._by_digest.get(digest)
            if said is None:
                said = Said(message, digest, value, -1, is_exact(message))
                self._by_digest[digest] = self._by_id[id(message)] = said
        return said
