"""Anthropic's Messages: the wire of Claude Code."""

from __future__ import annotations

from .dialect import AnthropicMessages
from .extras import render_models, render_token_count

__all__ = ["AnthropicMessages", "render_models", "render_token_count"]
