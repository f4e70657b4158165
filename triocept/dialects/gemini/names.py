"""The dialect's name, and what of a value is in its words."""

from __future__ import annotations

__all__ = ["NAME", "is_own"]

NAME = "gemini"


def is_own(dialect: str) -> bool:
    """Whether the `extra` of a response of this dialect may be written here; a program's own ("") may."""
    return dialect in ("", NAME)
