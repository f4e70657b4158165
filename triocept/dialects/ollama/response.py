"""Whole answers of `/api/chat`: a stream of one document.

Rules:

1. Further fields of the document (`total_duration`, `logprobs`, …) are in `extra`, those of its message in
   `extra["message"]`. `created_at` is always the time of triocept's answer.
2. An answer has no id on this wire.
3. A refusal in words is a text; signatures and other wires' own parts are left out.
4. Clients rely on the numbers: unknown usage is estimated.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ..._canonical.content import Json
from ..._canonical.events import Event, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._canonical.tokens import estimate_usage
from .._clock import answer_time
from .._documents import is_same_dialect, merged
from .._failures import error_of
from .chunks import Chunks
from .ending import render_finish, render_usage
from .error import find_error, parse_error
from .messages import render_parts
from .names import NAME


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its reason is unknown.
        UpstreamTruncated: the answer is not complete.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    events: list[Event] = []
    chunks = Chunks()
    chunks.take(document, events)
    chunks.close()
    return assemble(events)


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    document: dict[str, Json] = {
        "model": response.model or request.model,
        "created_at": now(),
        "message": {"role": "assistant", **render_parts(response.content, same_dialect=same_dialect)},
        "done": True,
        "done_reason": render_finish(response.stop_reason),
        **render_usage(response.usage or estimate_usage(request, response)),
    }
    return merged(document, response.extra) if same_dialect and response.extra else document


def now() -> str:
    """Return the time of the answer in Go's format."""
    return datetime.fromtimestamp(answer_time(), UTC).isoformat().replace("+00:00", "Z")
