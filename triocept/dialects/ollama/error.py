"""Errors: `{"error": "the words"}`, as a body and as a line of a stream. All but the words is in the HTTP status.

The words may be a document of their own: what llama.cpp, its engine, has answered (Ollama 0.40).
"""

from __future__ import annotations

from ..._canonical.content import Json
from ...errors import DialectError
from .._documents import decode_json
from .._failures import (
    OVERFLOW,
    Failure,
    error_text,
    is_overflow,
    overflow_counts,
    overflow_words,
    says_overflow,
    status_of,
)

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
    error = find_error(document) or document
    inner = _engine_error(error)
    message = error_text(inner or error, document, status)
    kind = inner.get("type")
    if is_overflow(message, kind if isinstance(kind, str) else None):
        return Failure(status=400, message=_counted(message, inner), code=OVERFLOW)
    return Failure(status=status_of(status), message=message)


def find_error(document: Json) -> Json:
    """The error in a document that came in place of an answer; None where there is none."""
    return document.get("error") or None if isinstance(document, dict) else None


def _engine_error(error: Json) -> dict[str, Json]:
    """The error of the engine, where it is the words of Ollama's; empty where there is none."""
    if not isinstance(error, str) or not error.startswith("{"):
        return {}
    try:
        document = decode_json(error)
    except DialectError:
        return {}
    inner = find_error(document) or document
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) and isinstance(inner.get("message"), str) else {}


def _counted(message: str, error: dict[str, Json]) -> str:
    """The words of an overflow, with the counts that stand beside them."""
    tokens, most = error.get("n_prompt_tokens"), error.get("n_ctx")
    if overflow_counts(message) is not None or not isinstance(tokens, int) or not isinstance(most, int):
        return message
    return f"{message} ({tokens} tokens, and {most} fit)"
