"""The documents of the side routes: `GET /v1/models`, the same as that of chat completions."""

from __future__ import annotations

from ..openai_chat.extras import render_models

__all__ = ["render_models"]
