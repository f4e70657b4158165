"""Messages kept once.

An agent sends its whole conversation again with every call. Here equal messages become one object, and a
conversation becomes a few ranges of numbers: what a turn costs is what is new in it.

Rules:

1. Equal means equal to the last byte: nothing is lost by sharing.
2. The newest conversation is compared first: what is the same object is passed over, then message by message. What
   differs from it is looked for among those that look like it at a glance.
3. No megabyte is hashed: a message that is new costs about as little as one that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import is_

import msgspec

from .._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .._canonical.memory import same_head

__all__ = ["MessageTable", "equal_messages"]

_SHORT = 64
_HASHED = 64 * 1024
"""Characters."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class MessageTable:
    """The distinct messages of one rollout, numbered in the order of their arrival."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._kept_form: Callable[[Message], Message] | None = None
        self._given_form: dict[int, Message] = {}
        """By number, where that is not how it is kept."""
        self._alike: dict[Hashable, list[int]] = {}
        self._latest: list[int] = []
        self._given: tuple[Message, ...] = ()
        """The conversation of which `_latest` has the numbers, as it came."""
        self._kept: tuple[Message, ...] = ()
        """The same, as it is kept."""

    def add(self, messages: tuple[Message, ...]) -> list[int]:
        """The numbers of these messages; what is new gets a number."""
        known, latest = self.messages, self._latest
        if len(messages) >= len(latest) and all(map(is_, self._given, messages)):  # nearly always
            new = [self._find(message) for message in messages[len(latest) :]]
            self._latest = [*latest, *new]
            added = [known[number] for number in new]
            shared = self._kept is self._given and all(map(is_, added, messages[len(latest) :]))
            self._kept = messages if shared else (*self._kept, *added)
        else:
            self._latest, self._kept = self._changed(messages)
        self._given = messages
        return self._latest

    def intern(
        self, messages: tuple[Message, ...], kept: Callable[[Message], Message] | None = None
    ) -> tuple[Message, ...]:
        """The same messages, as the objects that earlier turns hold; the very tuple, if it holds them.

        Args:
            messages: a conversation.
            kept: makes of a message that is new what is kept of it; None: it is kept as it is.
        """
        self._kept_form = kept
        self.add(messages)
        return self._kept

    def _changed(self, messages: tuple[Message, ...]) -> tuple[list[int], tuple[Message, ...]]:
        """The numbers, and the kept messages, of a conversation that is not the latest one, grown."""
        known, latest = self.messages, self._latest
        head = same_head(messages, self._given)
        ours = head if self._kept is self._given else same_head(messages, self._kept)
        head = max(head, ours)
        numbers = [
            number if known[number] is message or self._is(number, message) else self._find(message)
            for number, message in zip(latest[head:], messages[head:], strict=False)
        ]
        numbers += [self._find(message) for message in messages[len(latest) :]]
        kept = [known[number] for number in numbers]
        shared = ours == head and all(map(is_, kept, messages[head:]))
        return [*latest[:head], *numbers], messages if shared else (*self._kept[:head], *kept)

    def _find(self, message: Message) -> int:
        alike = self._alike.setdefault(_glance(message), [])
        for number in alike:
            if self._is(number, message):
                return number
        kept = message if self._kept_form is None else self._kept_form(message)
        if kept is not message:
            self._given_form[len(self.messages)] = message
        alike.append(len(self.messages))
        self.messages.append(kept)
        return alike[-1]

    def _is(self, number: int, message: Message) -> bool:
        given = self._given_form
        return equal_messages(
            given.get(number, self.messages[number]) if given else self.messages[number], message
        )


def equal_messages(one: Message, other: Message) -> bool:
    """Whether they are equal to the last byte. (Python holds 1 and True for equal, which JSON does not.)"""
    return one == other and (_is_plain(one) or _encode(one) == _encode(other))


def _is_plain(message: Message) -> bool:
    """Whether it is text and nothing else: then equal is equal."""
    return message.extra is None and all(
        type(part) is Text and part.extra is None for part in message.content
    )


def _glance(message: Message) -> Hashable:
    """Equal for equal messages, cheap, and of nearly all others it differs.

    What differs and looks alike is compared one by one: none of it may come by the thousand.
    """
    parts = [
        _text_glance(part.text) if type(part) is Text and part.extra is None else _part_glance(part)
        for part in message.content
    ]
    glance = (message.role, message.name, *parts)
    return glance if message.extra is None else (*glance, _json_glance(message.extra))


def _part_glance(part: Part) -> Hashable:
    if isinstance(part, Opaque):
        return _json_glance(part.raw)
    glance = _own_glance(part)
    return glance if part.extra is None else (glance, _json_glance(part.extra))


def _own_glance(part: Part) -> Hashable:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return _text_glance(text)
        case ToolCall(id=identity, name=name, arguments=arguments):
            return (identity, name, _text_glance(arguments))
        case ToolResult(id=identity, content=content):
            return (identity, *map(_part_glance, content))
        case Reasoning(text=text, blobs=blobs):
            return (_text_glance(text), *(_text_glance(blob.data) for blob in blobs))
        case Media(url=url, data=data):
            return (_text_glance(url or ""), _text_glance(data or ""))
        case _:
            return type(part)


def _json_glance(value: Json) -> Hashable:
    return _text_glance(_encode(value))


def _text_glance(text: str | bytes) -> Hashable:
    return text if len(text) <= _SHORT else (len(text), text[:_SHORT], text[-_SHORT:], hash(text[:_HASHED]))


def ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as half-open ranges: `[0, 1, 2, 7]` is `[(0, 3), (7, 8)]`."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
