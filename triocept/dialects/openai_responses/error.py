"""Errors of Responses: those of chat completions, and the forms of a stream and of a websocket.

A stream has `response.failed` with `response.error`, and the event `error`: flat at OpenAI, nested at other servers.
Codex understands the nested form alone, other clients read the flat one, so triocept writes both in one event.
"""

from __future__ import annotations

import math

import msgspec

from ..._canonical.content import Json
from .._failures import Failure
from ..openai_chat.error import parse_error as parse_chat_error
from ..openai_chat.error import render_error as render_chat_error

# The codes of `response.failed`, with the equivalent HTTP status.
_STATUSES = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "usage_not_included": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "server_error": 500,
    "invalid_prompt": 400,
    "cyber_policy": 400,
    "bio_policy": 400,
    "invalid_image": 400,
    "previous_response_not_found": 400,
}
_STOP = "invalid_prompt"  # the only code that Codex treats as final, with its message displayed


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    document = render_chat_error(failure)
    error = document["error"]
    if failure.param is None and error["param"] == "messages":  # the field name of chat completions
        error["param"] = "input"
    return document


def render_event_error(failure: Failure, number: int) -> dict[str, Json]:
    """Return the `error` event that ends a stream.

    Codex stops at some codes, and retries at all others; the code is chosen to match `should_retry`. Codex stops on
    "server_is_overloaded" in a stream, but not as an HTTP status, so a stream gets "server_error" in its place.
    """
    error = render_error(failure)["error"]
    if failure.code is None and failure.should_retry is False and error["code"] != "context_length_exceeded":
        error["code"] = _STOP
    elif failure.code is None and error["code"] == "server_is_overloaded":
        error["code"] = "server_error"
    flat = {name: error[name] for name in ("code", "message", "param")}
    return {"type": "error", **flat, "sequence_number": number, "error": error}


def render_ws_error(failure: Failure) -> dict[str, Json]:
    """Return the websocket frame for `failure`.

    Without its `status`, Codex ignores the frame and waits for 300 s. Codex stops on "server_is_overloaded" here, as
    in a stream, whatever the status (0.169).
    """
    headers = dict(failure.headers)
    if failure.retry_after is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after))
    error = render_error(failure)["error"]
    if failure.code is None and error["code"] == "server_is_overloaded":
        error["code"] = "server_error"
    return {"type": "error", "status": failure.status, "error": error, "headers": headers}


def render_steer_failed(document: Json) -> dict[str, Json]:
    """Return the event that answers a `response.steer`: triocept cannot steer an answer that is under way."""
    steer = document if isinstance(document, dict) else {}
    what = "no answer of this endpoint can be steered: send the input with the next `response.create`"
    return {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "error": {"type": "invalid_request_error", "code": "steering_not_supported", "message": what},
        "steer": {
            "previous_response_id": steer.get("previous_response_id") or "",
            "input": steer.get("input") or [],
        },
    }


def parse_error(status: int, document: Json) -> Failure:
    """Return the failure in a provider's error document, whatever the document.

    A status below 400 (an error inside a stream) is replaced by the status of the error's code.
    """
    failure = parse_chat_error(status, find_error(document) or document)
    known = _STATUSES.get(failure.code or "")
    if not 400 <= status <= 599 and known is not None:
        return msgspec.structs.replace(failure, status=known)
    return failure


def find_error(document: Json) -> Json:
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return {"error": document["error"]}
    if document.get("object") == "error":  # SGLang, without a wrapper
        return document
    if document.get("type") == "error":
        return {"error": {name: document.get(name) for name in ("code", "message", "param")}}
    response = document.get("response")
    if document.get("type") == "response.failed" or (isinstance(response, dict) and response.get("error")):
        found = response.get("error") if isinstance(response, dict) else None
        return {"error": found or {"message": "the provider's response failed"}}
    return None
