"""Anthropic's Messages: the wire of Claude Code."""

from __future__ import annotations

from .dialect import ANTHROPIC_MESSAGES
from .side import render_models, render_token_count

__all__ = ["ANTHROPIC_MESSAGES", "render_models", "render_token_count"]
