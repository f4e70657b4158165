"""OpenAI's completions: text in, text out; the wire of base models."""

from __future__ import annotations

from .dialect import OPENAI_COMPLETIONS

__all__ = ["OPENAI_COMPLETIONS"]
