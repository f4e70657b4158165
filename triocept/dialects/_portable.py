"""What of a value may be written into which dialect."""

from __future__ import annotations

from collections.abc import Iterable

from .._canonical.content import Message, Opaque

__all__ = ["is_same_dialect", "portable"]


def is_same_dialect(dialect: str, here: str) -> bool:
    """Whether the `extra` of a response of this dialect may be written in the one `here`; a program's own ("") may."""
    return dialect in ("", here)


def portable(messages: Iterable[Message]) -> list[Message]:
    """The messages, without those that are nothing but an item of their own dialect: Codex's `additional_tools` (the
    tools that it declares are the request's own), say. An empty message in its place would say something."""
    return [message for message in messages if not _is_bare_item(message)]


def _is_bare_item(message: Message) -> bool:
    marked = message.extra is not None and "item" in message.extra
    return marked and bool(message.content) and all(type(part) is Opaque for part in message.content)
