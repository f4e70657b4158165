"""Errors: `{"error": "the message"}`, as a body and as a line of a stream. Other facts are in the HTTP status alone.

The message may be a JSON document: the answer of llama.cpp, Ollama's engine (Ollama 0.40).
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
    """Return the error document for `failure`."""
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
    """Return the failure in a provider's error document, whatever the document."""
    error = find_error(document) or document
    inner = _engine_error(error)
    message = error_text(inner or error, document, status)
    kind = inner.get("type")
    if is_overflow(message, kind if isinstance(kind, str) else None):
        return Failure(status=400, message=_counted(message, inner), code=OVERFLOW)
    return Failure(status=status_of(status), message=message)


def find_error(document: Json) -> Json:
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    return document.get("error") or None if isinstance(document, dict) else None


def _engine_error(error: Json) -> dict[str, Json]:
    """Return the engine's error if Ollama's message is one; an empty dict for any other message."""
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
    """Return the message of an overflow, with the counts in the error's other fields."""
    tokens, most = error.get("n_prompt_tokens"), error.get("n_ctx")
    if overflow_counts(message) is not None or not isinstance(tokens, int) or not isinstance(most, int):
        return message
    return f"{message} ({tokens} tokens, and {most} fit)"
