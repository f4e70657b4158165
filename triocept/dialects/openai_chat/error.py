"""Errors of chat completions: `{"error": {message, type, param, code}}`, and the other forms of servers.

`code` is a string at OpenAI and an int at vLLM; `error` is a string at transformers and missing at SGLang; FastAPI
servers send `{"detail": ...}`.
"""

from __future__ import annotations

from ..._canonical.content import Json
from .._documents import encode_json
from .._failures import OVERFLOW, Failure, is_overflow, overflow_words, says_overflow, status_of

# Status -> (type, code), as OpenAI answers.
_BY_STATUS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "server_is_overloaded"),
}
# These words count as an overflow for opencode, pi, qwen-code, Claude Code and litellm.
_TOO_LONG = "maximum context length is"
_COUNTED = (
    f"This model's {_TOO_LONG} {{most}} tokens. However, your messages resulted in {{tokens}} tokens. "
    "Please reduce the length of the messages."
)
_UNCOUNTED = "The prompt exceeds the maximum context length of this model"
_TYPES = {"insufficient_quota": "insufficient_quota"}


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    message = failure.message
    server = ("server_error", None) if failure.status >= 500 else ("invalid_request_error", None)
    kind, code = _BY_STATUS.get(failure.status, server)
    if says_overflow(failure):
        message = overflow_words(message, known=_TOO_LONG, counted=_COUNTED, uncounted=_UNCOUNTED)
        return _error(message, "invalid_request_error", failure.param or "messages", OVERFLOW)
    code = failure.code or code
    return _error(message, _TYPES.get(code or "", kind), failure.param, code)


def parse_error(status: int, document: Json) -> Failure:
    """Return the failure in a provider's error document, whatever the document.

    A status below 400 (an error in place of an answer) is replaced by the error's `code`, if that is an HTTP status.
    """
    error = find_error(document) or document
    if not isinstance(error, dict):
        message = error if isinstance(error, str) else _as_text(error)
        error = {}
    else:
        message = _message(error)
    code = error.get("code") if isinstance(error.get("code"), str) else None
    kind = error.get("type") if isinstance(error.get("type"), str) else None
    param = error.get("param") if isinstance(error.get("param"), str) else None
    message = message or f"the provider answered {status}"
    if is_overflow(message, code) or is_overflow("", kind):
        return Failure(status=400, message=message, code=OVERFLOW, param=param)
    status = status_of(status, status_of(error.get("code")))
    return Failure(status=status, message=message, code=code, param=param)


def find_error(document: Json) -> Json:
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return document["error"]
    return document if document.get("object") == "error" else None  # SGLang, without a wrapper


def _message(error: dict[str, Json]) -> str:
    for name in ("message", "detail", "error", "msg"):
        value = error.get(name)
        if value:
            return value if isinstance(value, str) else _as_text(value)
    return _as_text(error) if error else ""


def _error(message: str, kind: str, param: str | None, code: str | None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _as_text(value: Json) -> str:
    return encode_json(value).decode("utf-8", "replace") if value is not None else ""
