"""Streams of Responses: the parser and the renderer; and the renderer's events without a frame."""

from __future__ import annotations

from .stream_documents import Documents, WireEvent
from .stream_parser import Parser
from .stream_renderer import Renderer

__all__ = ["Documents", "Parser", "Renderer", "WireEvent"]
