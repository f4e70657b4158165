"""Whole answers of Messages.

Rules:

1. `extra` mirrors the document (`container`, `stop_details`, `context_management`, …).
2. The wire requires numbers: unknown usage is estimated.
3. A refusal in words is a text with the stop reason `refusal`: the wire has no other place for it.
"""

from __future__ import annotations

from ..._canonical.content import Json, Opaque, Reasoning, RefusalText, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart
from ..._canonical.tokens import estimate_usage
from .._documents import Fields, is_same_dialect, known_of, merged
from .._failures import error_of
from .._ids import fresh_id
from .ending import parse_finish, parse_usage, render_finish, render_usage
from .error import find_error, parse_error
from .names import NAME
from .parts import parse_content, render_block
from .reasoning import render_reasoning
from .tools import render_call


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its stop reason is unknown.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    value = fields.take("content")
    content: tuple[ResponsePart, ...] = tuple(
        part if isinstance(part, ResponsePart) else Opaque(NAME, value[number])
        for number, part in enumerate(parse_content(value, "content"))
    )
    calls = any(isinstance(part, ToolCall) for part in content)
    stop, kept = parse_finish(fields.take("stop_reason"), calls=calls)
    for known in ("type", "role"):
        fields.take(known)
    return Response(
        content,
        stop_reason=stop,
        stop_sequence=fields.text("stop_sequence"),
        usage=parse_usage(fields.take("usage"), "usage"),
        model=fields.text("model") or "",
        id=fields.text("id") or "",
        extra={**known_of(fields.rest()), **kept} or None,
        dialect=NAME,
    )


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    content: list[Json] = []
    calls = refusal = False
    for part in response.content:
        match part:
            case Reasoning():
                content += render_reasoning(part, same_dialect=same_dialect, signed_only=False)
            case ToolCall():
                calls = True
                content.append(render_call(part, same_dialect=same_dialect))
            case _:
                refusal = refusal or isinstance(part, RefusalText)
                block = render_block(part, same_dialect=same_dialect, blank=True)
                if block is not None:
                    content.append(block)
    usage = response.usage or estimate_usage(request, response)
    document: dict[str, Json] = {
        "id": response.id or fresh_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": response.model or request.model,
        "content": content,
        "stop_reason": render_finish(response.stop_reason, calls=calls, refusal=refusal),
        "stop_sequence": response.stop_sequence,
        "usage": render_usage(usage, same_dialect=same_dialect),
    }
    return merged(document, response.extra) if same_dialect and response.extra else document
