"""Errors: `{"error": "the words"}`, as a body and as a line of a stream. All but the words is in the HTTP status."""

from __future__ import annotations

from ..._canonical.content import Json
from .._failures import (
    OVERFLOW,
    Failure,
    error_text,
    is_overflow,
    overflow_words,
    says_overflow,
    status_of,
)

__all__ = ["find_error", "parse_error", "render_error"]

_TOO_LONG = "maximum context length"


def render_error(failure: Failure) -> Json:
    """The document that says `failure`."""
    message = failure.message
    if says_overflow(failure):
        message = overflow_words(
            message,
            known=_TOO_LONG,
            counted=f"the input of {{tokens}} tokens exceeds the {_TOO_LONG} of {{most}} tokens",
            uncounted=f"the input exceeds the {_TOO_LONG}",
        )
    return {"error": message}


def parse_error(status: int, document: Json) -> Failure:
    """The failure that a provider's error document says, whatever the document."""
    message = error_text(find_error(document) or document, document, status)
    if is_overflow(message):
        return Failure(status=400, message=message, code=OVERFLOW)
    return Failure(status=status_of(status), message=message)


def find_error(document: Json) -> Json:
    """The error in a document that came in place of an answer; None where there is none."""
    return document.get("error") or None if isinstance(document, dict) else None
