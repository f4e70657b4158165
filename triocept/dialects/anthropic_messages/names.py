"""The dialect's name."""

from __future__ import annotations

NAME = "anthropic_messages"
