"""The name of the dialect."""

from __future__ import annotations

NAME = "openai_completions"
