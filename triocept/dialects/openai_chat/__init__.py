"""OpenAI's chat completions: the wire of most agents and of nearly every server."""

from __future__ import annotations

from .dialect import OpenAIChat
from .extras import render_models

__all__ = ["OpenAIChat", "render_models"]
