"""The dialect's name."""

from __future__ import annotations

NAME = "openai_chat"
