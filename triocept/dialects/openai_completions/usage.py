"""Usage: the same object as that of chat completions."""

from __future__ import annotations

from ..openai_chat.usage import parse_usage, render_usage

__all__ = ["parse_usage", "render_usage"]
