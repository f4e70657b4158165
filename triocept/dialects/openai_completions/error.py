"""Errors: those of chat completions, with `prompt` as the parameter of an overflow."""

from __future__ import annotations

from ..._canonical.content import Json
from .._failures import OVERFLOW, Failure
from ..openai_chat import error as chat


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    document = chat.render_error(failure)
    if document["error"]["code"] == OVERFLOW and failure.param is None:
        document["error"]["param"] = "prompt"
    return document
