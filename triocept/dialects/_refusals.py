"""What no other dialect can say, and must not pass over in silence."""

from __future__ import annotations

from collections.abc import Iterable

from .._canonical.content import Message, Opaque
from ..errors import DialectError

__all__ = ["refuse_token_ids"]

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
