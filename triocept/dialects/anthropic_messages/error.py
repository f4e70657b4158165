"""Errors of Messages: `{"type": "error", "error": {type, message}, "request_id"}`, also as events of a stream."""

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
from .._ids import fresh_id

_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LOST = "previous_response_not_found"
_DETAILS = {
    _LOST: {"error_code": "thread_not_found"}
}  # on this error the SDKs send the whole conversation again
_BY_TYPE = {kind: status for status, kind in _BY_STATUS.items() if status != 503}


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    message = failure.message
    otherwise = "api_error" if failure.status >= 500 else "invalid_request_error"
    details = _DETAILS.get(failure.code or "")
    kind = (None if details else failure.code) or _BY_STATUS.get(failure.status, otherwise)
    if says_overflow(failure):
        kind = "invalid_request_error"
        # On these words Claude Code compacts its history; it reads the numbers.
        words = "prompt is too long"
        message = overflow_words(
            message, known=words, counted=f"{words}: {{tokens}} tokens > {{most}} maximum", uncounted=words
        )
    error: dict[str, Json] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return {
        "type": "error",
        "error": error,
        "request_id": failure.headers.get("request-id") or fresh_id("req_"),
    }


def parse_error(status: int, document: Json) -> Failure:
    """Return the failure in a provider's error document, whatever the document.

    A status below 400 (an error inside a stream) is replaced by the status of the error's type.
    """
    error = find_error(document) or document
    kind = error.get("type") if isinstance(error, dict) else None
    kind = kind if isinstance(kind, str) and kind != "error" else None
    message = error_text(error, document, status)
    if is_overflow(message, kind):
        return Failure(status=400, message=message, code=OVERFLOW)
    return Failure(status=status_of(status, _BY_TYPE.get(kind or "", 502)), message=message, code=kind)


def find_error(document: Json) -> Json:
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return document["error"]
    return document if document.get("type") == "error" else None
