"""Parse and render answers of the Messages API that are not streamed, and errors of this API.

Rules:

1. `extra` contains further fields under their own names (`container`, `stop_details`, `context_management`, …).
2. The API requires token counts, so unknown counts are estimated.
3. A refusal that the model wrote as text becomes a text block, and the stop reason is `refusal`. The API has no field
   for a refusal.

An unknown or missing stop reason from an upstream is a failure, because triocept never invents a reason. The API's
`input_tokens` exclude cached tokens; `Usage.input_tokens` includes the cached tokens. Further usage fields
(`server_tool_use`, `service_tier`, …) are stored in `Usage.extra` under their own names.

Errors have the form `{"type": "error", "error": {type, message}, "request_id"}`, also as events of a stream.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Json, Opaque, Reasoning, RefusalText, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage, settled_stop
from ..._canonical.tokens import estimate_usage
from ...errors import UpstreamError
from .._calls import fresh_id, is_object, object_of
from .._documents import Fields, encode_json, is_same_dialect, known_of, merged, parse_content
from .._failures import (
    OVERFLOW,
    Failure,
    aborted,
    error_of,
    error_text,
    is_overflow,
    is_overflow_failure,
    overflow_words,
    status_of,
)
from .parts import NAME, parse_block, render_block, render_call, render_reasoning


def parse_response(document: Json) -> Response:
    """Convert a provider's JSON body (not streamed) into a `Response`; see `Dialect.parse_response`."""
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    value = fields.take("content")
    content: tuple[ResponsePart, ...] = tuple(
        part if isinstance(part, ResponsePart) else Opaque(NAME, value[number])
        for number, part in enumerate(parse_content(value, "content", parse_block))
    )
    calls = any(isinstance(part, ToolCall) for part in content)
    identity = fields.text("id") or ""
    if (reason := fields.take("stop_reason")) is None:
        check_aborted(identity)
    stop, kept = parse_finish(reason, calls=calls)
    for known in ("type", "role"):
        fields.take(known)
    return Response(
        content,
        stop_reason=stop,
        stop_sequence=fields.text("stop_sequence"),
        usage=parse_usage(fields.take("usage"), "usage"),
        model=fields.text("model") or "",
        id=identity,
        extra={**known_of(fields.rest()), **kept} or None,
        dialect=NAME,
    )


def render_response(response: Response, request: Request) -> Json:
    """Convert a response into the JSON body that answers `request`."""
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
                if (block := render_block(part, same_dialect=same_dialect, blank=True)) is not None:
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


_PARSED: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "context_full",
    "refusal": "refused",
    "pause_turn": "paused",
    "compaction": "paused",  # from a beta of Anthropic; `extra` keeps the original value
}
_RENDERED: dict[StopReason, str] = {stop: word for word, stop in _PARSED.items() if word != "compaction"}


def with_whole_arguments(response: Response) -> Response:
    """Return the response with call arguments that are JSON objects, as `render_call` writes them.

    Without this step, a stream would contain the model's original arguments, which need not be a JSON object.
    """
    broken = [call for call in response.tool_calls if call.kind != "text" and not is_object(call.arguments)]
    if not broken:
        return response
    content = tuple(
        msgspec.structs.replace(part, arguments=encode_json(object_of(part.arguments)).decode())
        if isinstance(part, ToolCall) and part in broken
        else part
        for part in response.content
    )
    return msgspec.structs.replace(response, content=content)


def check_aborted(identity: str) -> None:
    """Raise `UpstreamError` if an answer without a stop reason has the id (`identity`) of an aborted answer.

    The Messages API has no stop reason for "abort", so vLLM sends no stop reason (entrypoints/anthropic/serving.py).
    Answers of vLLM are recognised by their ids, which have the form of chat completion ids.
    """
    if identity.startswith("chatcmpl-"):
        raise aborted("no stop_reason, from vLLM")


def parse_finish(reason: Json, *, calls: bool) -> tuple[StopReason, dict[str, Json]]:
    """Convert a `stop_reason` into a `StopReason`.

    The returned dict is part of the response's `extra`. The dict contains `reason` if `render_finish` would write
    another word for the `StopReason`.

    Raise `UpstreamError` if the reason is unknown or missing.
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        raise UpstreamError(
            f"the stop reason of the provider's answer is missing, or unknown to Messages: {reason!r}"
        )
    kept = {"stop_reason": reason} if _RENDERED[stop] != reason else {}
    return settled_stop(stop, calls=calls), kept


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]


_READ, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_DETAILS = "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Convert the JSON object `usage` into a `Usage`; return None if `usage` is missing or has no token count."""
    if not value:
        return None
    fields = Fields(value, path)
    fresh, output = fields.count("input_tokens"), fields.count("output_tokens")
    read, written = fields.count(_READ), fields.count(_WRITTEN)
    if fresh is None and output is None:
        return None
    details = fields.object(_DETAILS) or Fields({})
    thinking = details.count("thinking_tokens")
    fields.keep(_DETAILS, details.rest())
    return Usage(
        input_tokens=(fresh or 0) + (read or 0) + (written or 0),
        output_tokens=output or 0,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=thinking,
        extra=known_of(fields.rest()) or None,
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    """Convert a `Usage` into the JSON object `usage`."""
    cached = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    document: dict[str, Json] = {"input_tokens": max(0, usage.input_tokens - cached)}
    if usage.cache_write_tokens is not None:
        document[_WRITTEN] = usage.cache_write_tokens
    if usage.cached_tokens is not None:
        document[_READ] = usage.cached_tokens
    document["output_tokens"] = usage.output_tokens
    if usage.reasoning_tokens is not None:
        document[_DETAILS] = {"thinking_tokens": usage.reasoning_tokens}
    return merged(document, usage.extra) if same_dialect and usage.extra else document


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
# On this error the SDKs send the whole conversation again.
_ERROR_DETAILS = {"previous_response_not_found": {"error_code": "thread_not_found"}}
_BY_TYPE = {kind: status for status, kind in _BY_STATUS.items() if status != 503}


def render_error(failure: Failure) -> Json:
    """Convert a failure into the JSON body of an error."""
    message = failure.message
    otherwise = "api_error" if failure.status >= 500 else "invalid_request_error"
    details = _ERROR_DETAILS.get(failure.code or "")
    kind = (None if details else failure.code) or _BY_STATUS.get(failure.status, otherwise)
    if is_overflow_failure(failure):
        kind = "invalid_request_error"
        # Claude Code compacts its history when it reads these words, and uses the numbers.
        words = "prompt is too long"
        message = overflow_words(
            message, known=words, counted=f"{words}: {{tokens}} tokens > {{most}} maximum", uncounted=words
        )
    error: dict[str, Json] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    identity = failure.headers.get("request-id") or fresh_id("req_")
    return {"type": "error", "error": error, "request_id": identity}


def parse_error(status: int, document: Json) -> Failure:
    """Convert a provider's error into a `Failure`.

    If `status` is below 400, derive the status from the error's type.
    """
    error = find_error(document) or document
    kind = error.get("type") if isinstance(error, dict) else None
    kind = kind if isinstance(kind, str) and kind != "error" else None
    message = error_text(error, document, status)
    if is_overflow(message, kind):
        return Failure(status=400, message=message, code=OVERFLOW)
    return Failure(status=status_of(status, _BY_TYPE.get(kind or "", 502)), message=message, code=kind)


def find_error(document: Json) -> Json:
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return document["error"]
    return document if document.get("type") == "error" else None
