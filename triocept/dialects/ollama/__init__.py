"""Ollama's own `/api/chat`: the wire of its command line, of its SDKs, and of programs for models on one's machine."""

from __future__ import annotations

from .dialect import OLLAMA

__all__ = ["OLLAMA"]
