"""Parts of a conversation that no other dialect can express, but that must not be dropped silently."""

from __future__ import annotations

from collections.abc import Iterable

from .._canonical.content import Message, Opaque
from ..errors import DialectError


def portable(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without the messages that hold only an item of their own dialect.

    An example is Codex's `additional_tools`, whose tools are the request's own, too. An empty message in its place
    would change the conversation.
    """
    return [message for message in messages if not _is_bare_item(message)]


def _is_bare_item(message: Message) -> bool:
    marked = message.extra is not None and "item" in message.extra
    return marked and bool(message.content) and all(type(part) is Opaque for part in message.content)


_COMPLETIONS = "openai_completions"


def refuse_token_ids(messages: Iterable[Message]) -> None:
    """Raise an error for a prompt of token ids: without them, the conversation would be empty.

    Raises:
        DialectError: the conversation is such a prompt; the error has the path in the agent's document.
    """
    for message in messages:
        for part in message.content:
            if type(part) is Opaque and part.dialect == _COMPLETIONS and isinstance(part.raw, list):
                raise DialectError("token ids cannot be said in another dialect", path="prompt")
