"""OpenAI's chat completions: the wire of most agents and of nearly every server."""

from __future__ import annotations

from .dialect import OPENAI_CHAT

__all__ = ["OPENAI_CHAT"]
