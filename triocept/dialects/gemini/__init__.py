"""Google's generateContent: the wire of gemini-cli and of the Gemini SDKs."""

from __future__ import annotations

from .dialect import GEMINI
from .side import match_count, parse_count_request, render_models, render_token_count

__all__ = ["GEMINI", "match_count", "parse_count_request", "render_models", "render_token_count"]
