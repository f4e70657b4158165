"""OpenAI's Responses: the wire of Codex, over HTTP, server-sent events and websockets."""

from __future__ import annotations

from .dialect import OPENAI_RESPONSES
from .error import render_steer_failed, render_ws_error
from .extras import (
    continued,
    is_stored,
    is_warm_up,
    render_input_items,
    render_stored,
    render_stored_events,
    render_token_count,
)
from .stream_documents import Documents, WireEvent
from .stream_renderer import Renderer

__all__ = [
    "OPENAI_RESPONSES",
    "Documents",
    "Renderer",
    "WireEvent",
    "continued",
    "is_stored",
    "is_warm_up",
    "render_input_items",
    "render_steer_failed",
    "render_stored",
    "render_stored_events",
    "render_token_count",
    "render_ws_error",
]
