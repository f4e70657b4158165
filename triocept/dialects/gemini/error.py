"""Errors of Google: `{"error": {code, message, status, details}}`, in a stream perhaps in a list of one.

`code` is the HTTP status, `status` the name of gRPC's. `details` contains a retry delay as `RetryInfo`, which
gemini-cli reads in place of the header.
"""

from __future__ import annotations

import re

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

_BY_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_BY_NAME = {name: status for status, name in reversed(_BY_STATUS.items())} | {"FAILED_PRECONDITION": 400}
_NAME = re.compile(r"[A-Z]+(_[A-Z]+)*")
_TYPES = "type.googleapis.com/google.rpc."
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")
_TOO_MANY = "exceeds the maximum number of tokens allowed"
_NEVER = re.compile(r"\blimit: 0\b")  # a quota of zero: this account cannot use the model


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    message, code = failure.message, failure.code or ""
    if says_overflow(failure):  # Google's own words, which pi, Claude Code and litellm recognise, too
        message = overflow_words(
            message,
            known=_TOO_MANY,
            counted=f"The input token count ({{tokens}}) {_TOO_MANY} ({{most}}).",
            uncounted=f"The input token count {_TOO_MANY}",
        )
    otherwise = "INTERNAL" if failure.status >= 500 else "INVALID_ARGUMENT"
    name = code if _NAME.fullmatch(code) else _BY_STATUS.get(failure.status, otherwise)
    error = {"code": failure.status, "message": message, "status": name, "details": _details(failure)}
    return {"error": error}


def parse_error(status: int, document: Json) -> Failure:
    """Return the failure in a provider's error document, whatever the document.

    A status below 400 (an error in place of an answer) is replaced by the error's own.
    """
    error = find_error(document) or document
    message = error_text(error, document, status)
    if is_overflow(message):
        return Failure(status=400, message=message, code=OVERFLOW)
    fields = error if isinstance(error, dict) else {}
    code = fields.get("status")
    code = code if isinstance(code, str) else None
    told = status_of(fields.get("code"), _BY_NAME.get(code or "", 502))
    return Failure(
        status=status_of(status, told),
        message=message,
        code=code,
        retry_after=_retry_after(fields.get("details")),
        should_retry=False if _NEVER.search(message) else None,
    )


def find_error(document: Json) -> Json:
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    return document.get("error") or None if isinstance(document, dict) else None


def _details(failure: Failure) -> list[Json]:
    details: list[Json] = []
    if failure.retry_after is not None:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{failure.retry_after:g}s"})
    if failure.param is not None:
        violation = {"field": failure.param, "description": failure.message}
        details.append({"@type": f"{_TYPES}BadRequest", "fieldViolations": [violation]})
    return details


def _retry_after(details: Json) -> float | None:
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        found = _SECONDS.fullmatch(delay) if isinstance(delay, str) else None
        if found:
            return float(found[1])
    return None
