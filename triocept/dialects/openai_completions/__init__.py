"""OpenAI's legacy completions: a text that goes on. The wire of base models and of evaluations by log probability."""

from __future__ import annotations

from .dialect import OpenAICompletions
from .extras import render_models

__all__ = ["OpenAICompletions", "render_models"]
