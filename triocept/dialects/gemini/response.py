"""Whole answers of generateContent.

Rules:

1. A whole answer is read as a stream of one chunk.
2. `extra` mirrors the document: further fields of the candidate (`safetyRatings`, `groundingMetadata`, …) are in
   `extra["candidates"][0]`.
3. gemini-cli relies on the usage: unknown usage is estimated.
4. A refusal in words is a text with the finish reason `SAFETY`: the wire has no other place for it.
5. The answer to a blocked prompt has no candidate.
"""

from __future__ import annotations

from ..._canonical.content import Json, Reasoning, RefusalText, ToolCall
from ..._canonical.events import Event, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._canonical.tokens import estimate_usage
from .._documents import is_same_dialect, merged
from .._failures import error_of
from .._ids import fresh_id
from .chunks import Chunks
from .ending import render_finish, render_usage
from .error import find_error, parse_error
from .names import NAME
from .parts import render_part, render_reasoning
from .tools import render_call, with_id


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its finish reason means a failure.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    events: list[Event] = []
    chunks = Chunks()
    chunks.take(document, events)
    chunks.end(events)
    return assemble(events)


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    extra = (response.extra or {}) if same_dialect else {}
    parts: list[dict[str, Json]] = []
    calls = refusal = False
    for part in response.content:
        match part:
            case Reasoning():
                parts += render_reasoning(part, same_dialect=same_dialect, answer=True)
            case ToolCall():
                calls = True
                parts.append(render_call(with_id(part), same_dialect=same_dialect))
            case _:
                refusal = refusal or isinstance(part, RefusalText)
                said = render_part(part, same_dialect=same_dialect)
                if said is not None:
                    parts.append(said)
    candidate = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": render_finish(response.stop_reason, calls=calls, refusal=refusal),
        "index": 0,
    }
    usage = response.usage or estimate_usage(request, response)
    document: dict[str, Json] = {} if is_blocked(extra, parts) else {"candidates": [candidate]}
    document |= {
        "usageMetadata": render_usage(usage, same_dialect=same_dialect),
        "modelVersion": response.model or request.model,
        "responseId": response.id or fresh_id(""),
    }
    return merged(document, extra) if extra else document


def is_blocked(extra: dict[str, Json], parts: object) -> bool:
    """Return True if the answer means a blocked prompt."""
    feedback = extra.get("promptFeedback")
    blocked = isinstance(feedback, dict) and feedback.get("blockReason")
    return bool(blocked) and not parts and "candidates" not in extra
