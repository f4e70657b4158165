"""What of a conversation no other dialect can say, nor pass over in silence."""

from __future__ import annotations

from collections.abc import Iterable

from .._canonical.content import Message, Opaque
from ..errors import DialectError


def portable(messages: Iterable[Message]) -> list[Message]:
    """The messages, without those that are nothing but an item of their own dialect: Codex's `additional_tools` (the
    tools that it declares are the request's own), say. An empty message in its place would say something."""
    return [message for message in messages if not _is_bare_item(message)]


def _is_bare_item(message: Message) -> bool:
    marked = message.extra is not None and "item" in message.extra
    return marked and bool(message.content) and all(type(part) is Opaque for part in message.content)


_COMPLETIONS = "openai_completions"


def refuse_token_ids(messages: Iterable[Message]) -> None:
    """Refuse a prompt of token ids: without them, the conversation would be empty.

    Raises:
        DialectError: the conversation is one; the path is that in the agent's document.
    """
    for message in messages:
        for part in message.content:
            if type(part) is Opaque and part.dialect == _COMPLETIONS and isinstance(part.raw, list):
                raise DialectError("token ids cannot be said in another dialect", path="prompt")
