"""Messages kept once.

An agent sends its whole conversation again with every call. Here equal messages become one object: what a turn costs is
what is new in it.

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
    """The distinct messages of one rollout."""

    def __init__(self) -> None:
        self._alike: dict[int, tuple[Message, ...]] = {}
        """What is kept, by the hash of its glance: the glance itself is half as large as a message of a few lines."""
        self._given_form: dict[int, Message] = {}
        """By the `id` of what is kept, where it came otherwise."""
        self._given: tuple[Message, ...] = ()
        """The conversation that came last, as it came."""
        self._kept: tuple[Message, ...] = ()
        """The same, as it is kept."""

    def intern(
        self, messages: tuple[Message, ...], kept_form: Callable[[Message], Message] | None = None
    ) -> tuple[Message, ...]:
        """The same messages, as the objects that earlier turns hold; the very tuple, if it holds them.

        Args:
            messages: a conversation.
            kept_form: makes of a message that is new what is kept of it; None: it is kept as it is.
        """
        head = same_head(messages, self._given)
        ours = head if self._kept is self._given else same_head(messages, self._kept)
        head = max(head, ours)
        kept = [
            old if new is was or new is old else self._find(new, kept_form)
            for new, was, old in zip(messages[head:], self._given[head:], self._kept[head:], strict=False)
        ]
        kept += [self._find(message, kept_form) for message in messages[head + len(kept) :]]
        shared = ours == head and all(map(is_, kept, messages[head:]))
        self._given, self._kept = messages, messages if shared else (*self._kept[:head], *kept)
        return self._kept

    def _find(self, message: Message, kept_form: Callable[[Message], Message] | None) -> Message:
        """What is kept of it."""
        look = hash(_glance(message))
        alike = self._alike.get(look, ())
        for known in alike:
            if equal_messages(self._given_form.get(id(known), known), message):
                return known
        kept = message if kept_form is None else kept_form(message)
        if kept is not message:
            self._given_form[id(kept)] = message
        self._alike[look] = (*alike, kept)
        return kept


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
        part.text
        if type(part) is Text and part.extra is None and len(part.text) <= _SHORT
        else _part_glance(part)
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
