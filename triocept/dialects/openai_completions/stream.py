"""Streams of completions: the parser and the renderer."""

from __future__ import annotations

from .stream_parser import Parser
from .stream_renderer import Renderer

__all__ = ["Parser", "Renderer"]
