"""The dialects by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .anthropic_messages import AnthropicMessages
from .base import Dialect
from .gemini import Gemini
from .openai_chat import OpenAIChat
from .openai_completions import OpenAICompletions
from .openai_responses import OpenAIResponses

__all__ = ["DIALECTS", "dialect"]

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        each.name: each
        for each in (OpenAIChat(), AnthropicMessages(), OpenAIResponses(), Gemini(), OpenAICompletions())
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
