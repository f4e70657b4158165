"""The dialect's name."""

from __future__ import annotations

__all__ = ["NAME"]

NAME = "ollama"
