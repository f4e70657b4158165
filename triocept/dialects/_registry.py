"""The dialects by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .anthropic_messages import ANTHROPIC_MESSAGES
from .base import Dialect
from .gemini import GEMINI
from .openai_chat import OPENAI_CHAT
from .openai_completions import OPENAI_COMPLETIONS
from .openai_responses import OPENAI_RESPONSES

__all__ = ["DIALECTS", "dialect"]

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        each.name: each
        for each in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES, GEMINI, OPENAI_COMPLETIONS)
    }
)
"""Every dialect, by its name."""


def dialect(name: str) -> Dialect:
    """The dialect of this name.

    Raises:
        ValueError: there is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise ValueError(f"there is no dialect {name!r}; there are {', '.join(sorted(DIALECTS))}") from None
