"""Parse and render answers of chat completions that are not streamed, and errors of this API.

Rules:

1. `extra` has the structure of the document: unknown fields of the choice (`logprobs`, `token_ids`, …) are in
   `extra["choices"][0]`, and unknown fields of the message are in `extra["choices"][0]["message"]`.
2. `created` is always the time of triocept's answer.
3. An answer with a refusal text has the stop reason "refusal".
4. Several texts become one text, and several pieces of reasoning become one piece, because the API cannot express the
   order of the pieces.

Agents fail on an unknown finish reason (opencode retries for ever), so only OpenAI's four reasons are written. An
unknown reason from an upstream (`abort`, `error`, `network_error`, …) raises an error.

`prompt_tokens` includes the cached tokens, and `completion_tokens` includes the reasoning, as in `Usage`. Further
numbers that servers send (`cost`, `audio_tokens`, …) are stored in `Usage.extra` under their own names.

Errors have the form `{"error": {message, type, param, code}}`. Other forms, which some servers send, are also read.
OpenAI's `code` is a string, and vLLM's is an int. transformers sends a string as `error`, SGLang sends no `error`, and
FastAPI servers send `{"detail": ...}`.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._canonical.content import Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage, settled_stop
from ...errors import DialectError, UpstreamError
from .._calls import custom_names, fitted_call, fresh_id, with_id
from .._clock import answer_time
from .._documents import Fields, encode_json, is_same_dialect, known_of, merged
from .._failures import (
    ABORTED,
    OVERFLOW,
    Failure,
    aborted,
    error_of,
    is_overflow,
    is_overflow_failure,
    overflow_words,
    status_of,
)
from .parts import NAME, assistant_parts, render_call, render_reasoning

MATCHED = ("stop_reason", "matched_stop")


def parse_response(document: Json) -> Response:
    """Convert a provider's JSON body (not streamed) into a `Response`; see `Dialect.parse_response`."""
    fields, choice = open_answer(document)
    message = choice.need_object("message")
    message.take("role")
    content: tuple[ResponsePart, ...] = tuple(
        part for part in assistant_parts(message) if isinstance(part, ResponsePart)
    )
    calls = any(isinstance(part, ToolCall) for part in content)
    refusal = any(isinstance(part, RefusalText) for part in content)
    end = take_stop(choice, calls=calls, refusal=refusal)
    if choice.peek("logprobs") is None:
        choice.take("logprobs")
    choice.keep("message", message.rest())
    return closed_answer(fields, choice.rest(), content, end, NAME)


def render_response(response: Response, request: Request) -> Json:
    """Convert a response into the JSON body that answers `request`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    texts: list[Text] = []
    thoughts: list[Reasoning] = []
    refusals: list[str] = []
    calls: list[Json] = []
    for part in response.content:
        match part:
            case Text():
                texts.append(part)
            case Reasoning():
                thoughts.append(part)
            case RefusalText(text=text):
                refusals.append(text)
            case ToolCall():
                call = with_id(fitted_call(part, custom_names(request)))
                calls.append(render_call(call, same_dialect=same_dialect))
    message: dict[str, Json] = {
        "role": "assistant",
        "content": "".join([part.text for part in texts]) if texts or not calls else None,
        "refusal": "".join(refusals) or None,
    }
    if thoughts:
        message |= render_reasoning(thoughts, same_dialect=same_dialect)
    if calls:
        message["tool_calls"] = calls
    for part in texts if same_dialect else ():
        message = merged(message, part.extra) if part.extra else message
    finish = render_finish(response.stop_reason, calls=bool(calls), refusal=bool(refusals))
    choice: dict[str, Json] = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return render_answer(response, request, choice, "chat.completion", "chatcmpl-", same_dialect=same_dialect)


def open_answer(document: Json) -> tuple[Fields, Fields]:
    """Return the fields of an answer, and the fields of its only choice.

    Raise the same errors as `parse_response`.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    choices = [Fields(item, path) for path, item in fields.items("choices")]
    if not choices:
        raise DialectError("must contain a choice", path="choices")
    # Only one choice was requested: take the choice with the smallest index, usually 0.
    return fields, min(choices, key=lambda choice: choice.integer("index") or 0)


def take_stop(choice: Fields, *, calls: bool, refusal: bool) -> tuple[StopReason, str | None]:
    """Read the stop reason and the matched stop string (or None) from a choice."""
    matched = next((found for name in MATCHED if isinstance(found := choice.peek(name), str)), None)
    stop, sequence = parse_finish(choice.take("finish_reason"), matched, calls=calls, refusal=refusal)
    for name in MATCHED if sequence is not None else ():
        if choice.peek(name) == sequence:
            choice.take(name)
    return stop, sequence


def closed_answer(
    fields: Fields,
    left: dict[str, Json] | None,
    content: tuple[ResponsePart, ...],
    end: tuple[StopReason, str | None],
    dialect: str,
) -> Response:
    """Return a `Response` with `content`, and with the model, id and usage from `fields`, the fields of the answer.

    `left` contains the unread fields of the choice. `end` contains the stop reason, and the matched stop string (or
    None).
    """
    for known in ("object", "created"):
        fields.take(known)
    usage = parse_usage(fields.take("usage"), "usage")
    fields.keep("choices", left and [left])
    return Response(
        content,
        stop_reason=end[0],
        stop_sequence=end[1],
        usage=usage,
        model=fields.text("model") or "",
        id=fields.text("id") or "",
        extra=fields.rest(),
        dialect=dialect,
    )


def render_answer(
    response: Response, request: Request, choice: Json, kind: str, prefix: str, *, same_dialect: bool
) -> Json:
    """Return the JSON body of an answer whose only choice is `choice`.

    `kind` is the value of the body's field `object`. A generated id begins with `prefix`.
    """
    if response.stop_sequence is not None:
        choice[MATCHED[0]] = response.stop_sequence
    document: dict[str, Json] = {
        "id": response.id or fresh_id(prefix),
        "object": kind,
        "created": int(answer_time()),
        "model": response.model or request.model,
        "choices": [choice],
    }
    if response.usage is not None:
        document["usage"] = render_usage(response.usage, same_dialect=same_dialect)
    return merged(document, response.extra) if same_dialect and response.extra else document


_PARSED: dict[str, StopReason] = {
    "stop": "end",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refused",
    "function_call": "tool_use",
    "eos_token": "end",  # text-generation-inference
    "stop_sequence": "stop_sequence",  # text-generation-inference
    "model_length": "context_full",  # Mistral
}
_RENDERED: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "context_full": "length",
    "refused": "content_filter",
    "paused": "stop",
}


def parse_finish(reason: Json, matched: Json, *, calls: bool, refusal: bool) -> tuple[StopReason, str | None]:
    """Convert a `finish_reason` into a stop reason and a stop string. Raise `UpstreamError` if the reason is unknown.

    Args:
        reason: the value of `finish_reason`.
        matched: the stop string that was matched (vLLM's `stop_reason`, SGLang's `matched_stop`); an int is a token id.
        calls: True if the answer calls tools.
        refusal: True if the answer contains a refusal that the model wrote as text.
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if reason == ABORTED:
        raise aborted('finish_reason "abort"')
    if stop is None:
        raise UpstreamError(
            f"the finish reason of the provider's answer is missing, or unknown to chat completions: {reason!r}"
        )
    if stop == "end" and isinstance(matched, str):
        return "stop_sequence", matched
    if stop == "end" and refusal:
        return "refused", None
    return settled_stop(stop, calls=calls), None


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """Convert a `StopReason` into a `finish_reason`. If the answer contains a refusal as text, return "stop".

    Some agents crash on `content_filter`, so only a refusal without a text gets this reason.
    """
    settled = settled_stop(stop, calls=calls)
    return "stop" if settled == "refused" and refusal else _RENDERED[settled]


class UsageNames(NamedTuple):
    """The names of the token counts in the `usage` of one API."""

    inputs: str
    outputs: str
    cached: str = ""
    """A second name for the number of cached tokens, which one server uses."""
    reasoning: str = ""
    """A second name for the number of reasoning tokens, which one server uses."""


_CHAT = UsageNames(
    "prompt_tokens",
    "completion_tokens",
    cached="prompt_cache_hit_tokens",  # DeepSeek
    reasoning="reasoning_tokens",  # SGLang
)


def parse_usage(value: Json, path: str, names: UsageNames = _CHAT) -> Usage | None:
    """Convert the JSON object `usage` into a `Usage`; return None if `usage` is missing or has no token count."""
    if not value:
        return None
    fields = Fields(value, path)
    inputs, outputs, total = (fields.count(name) for name in (names.inputs, names.outputs, "total_tokens"))
    if inputs is None and outputs is None:
        return None
    details = (f"{names.inputs}_details", f"{names.outputs}_details")
    read, wrote = (fields.object(name) or Fields({}) for name in details)
    cached, written = read.count("cached_tokens"), read.count("cache_write_tokens")
    reasoning = wrote.count("reasoning_tokens")
    if cached is None and names.cached:
        cached = fields.count(names.cached)
    if reasoning is None and names.reasoning:
        reasoning = fields.count(names.reasoning)
    for name, left in zip(details, (read, wrote), strict=True):
        fields.keep(name, left.rest())
    return Usage(
        input_tokens=max(0, (total or 0) - (outputs or 0)) if inputs is None else inputs,
        output_tokens=max(0, (total or 0) - (inputs or 0)) if outputs is None else outputs,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        extra=fields.rest(),
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> Json:
    """Convert a `Usage` into the JSON object `usage`."""
    document: dict[str, Json] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens is not None or usage.cache_write_tokens is not None:
        details = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
        document["prompt_tokens_details"] = known_of(details)
    if usage.reasoning_tokens is not None:
        document["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return merged(document, usage.extra) if same_dialect and usage.extra else document


# Status -> (type, code), as OpenAI answers.
_BY_STATUS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "server_is_overloaded"),
}
# opencode, pi, qwen-code, Claude Code and litellm recognise a prompt that is too long by these words.
_TOO_LONG = "maximum context length is"
_COUNTED = (
    f"This model's {_TOO_LONG} {{most}} tokens. However, your messages resulted in {{tokens}} tokens. "
    "Please reduce the length of the messages."
)
_UNCOUNTED = "The prompt exceeds the maximum context length of this model"


def render_error(failure: Failure) -> Json:
    """Convert a failure into the JSON body of an error."""
    message, param = failure.message, failure.param
    server = ("server_error", None) if failure.status >= 500 else ("invalid_request_error", None)
    kind, code = _BY_STATUS.get(failure.status, server)
    code = failure.code or code
    if is_overflow_failure(failure):
        message = overflow_words(message, known=_TOO_LONG, counted=_COUNTED, uncounted=_UNCOUNTED)
        kind, param, code = "invalid_request_error", param or "messages", OVERFLOW
    elif code == "insufficient_quota":
        kind = code
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_WORDS = ("message", "detail", "error", "msg")
"""The names of the fields in which servers send an error's message."""


def parse_error(status: int, document: Json) -> Failure:
    """Convert a provider's error document, which may have any form, into a `Failure`.

    If `status` is below 400 (an error came in place of an answer) and the error's `code` is an HTTP status, the failure
    has this status.
    """
    error = find_error(document) or document
    value = error
    if isinstance(error, dict):
        value = next((found for name in _WORDS if (found := error.get(name))), error or None)
    else:
        error = {}
    message = (
        value
        if isinstance(value, str)
        else ""
        if value is None
        else encode_json(value).decode("utf-8", "replace")
    )
    message = message or f"the provider answered {status}"
    code, kind, param = (
        found if isinstance(found := error.get(name), str) else None for name in ("code", "type", "param")
    )
    if is_overflow(message, code) or is_overflow("", kind):
        return Failure(status=400, message=message, code=OVERFLOW, param=param)
    status = status_of(status, status_of(error.get("code")))
    return Failure(status=status, message=message, code=code, param=param)


def find_error(document: Json) -> Json:
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return document["error"]
    return document if document.get("object") == "error" else None  # SGLang, without a wrapper
