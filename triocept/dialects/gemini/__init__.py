"""Google's generateContent: the wire of gemini-cli and of the Gemini SDKs."""

from __future__ import annotations

from .dialect import Gemini
from .extras import match_count, parse_count_request, render_models, render_token_count

__all__ = ["Gemini", "match_count", "parse_count_request", "render_models", "render_token_count"]
