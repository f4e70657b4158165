"""Parse and render answers of the Responses API that are not streamed, and errors of this API.

Rules:

1. An answer repeats fields of the request (instructions, tools, sampling, …). These fields have the values of the
   agent's own request, not the values of the upstream's answer. All fields that Open Responses requires are present; an
   unknown field is null or has its default (openresponses.org, schema `ResponseResource`).
2. `extra` contains further fields (`service_tier`, `end_turn`, …) under their own names, without null values.
3. The usage contains all token counts. Unknown counts are estimated, because some clients refuse an answer without
   usage.
4. If a token limit may have cut the last tool call, this call gets the status `incomplete`.
5. Codex always gets the status `completed`, because Codex treats the status `incomplete` as a fatal error.

The status `incomplete` means that the answer was stopped by a token limit or a content filter. An unknown or missing
status from an upstream raises an error, because triocept never invents a status.

`input_tokens` includes the cached tokens, and `output_tokens` includes the reasoning, as in `Usage`. The API requires
all token counts (Codex treats an answer without `total_tokens` as a broken stream), so the value 0 is written for an
unknown count. Further counts that servers send are stored in `Usage.extra` under their own names.

Errors have the form of chat completions, except in a stream and on a websocket. A stream may contain `response.failed`
with `response.error`, or the event `error`, which is flat at OpenAI and nested at other servers. Codex reads only the
nested form, and other clients read only the flat form. So triocept writes both forms in one event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..._canonical.content import Json, RefusalText, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage, settled_stop
from ..._canonical.tokens import estimate_usage
from ...errors import DialectError, UpstreamError
from .._calls import custom_names, fitted_call, fresh_id
from .._clock import answer_time
from .._documents import Fields, decode_json, is_same_dialect, known_of, merged
from .._failures import Failure, aborted, error_of
from .._portable import effort_for
from ..openai_chat.response import UsageNames
from ..openai_chat.response import parse_error as parse_chat_error
from ..openai_chat.response import parse_usage as parse_openai_usage
from ..openai_chat.response import render_error as render_chat_error
from .items import parse_item, render_answer
from .request import render_format, render_instructions
from .tools import NAME, NO_NAMES, echoed_tools, is_from_codex, names_of, render_choice

_ECHOED = (
    "object",
    "created_at",
    "completed_at",
    "output",
    "output_text",
    "error",
    "background",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)


def parse_response(document: Json) -> Response:
    """Convert a provider's JSON body (not streamed) into a `Response`; see `Dialect.parse_response`."""
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    has_output = isinstance(fields.peek("output"), list) and bool(fields.peek("output"))
    content = tuple(
        part
        for path, item in fields.items("output")
        for part in parse_item(item, path, NO_NAMES, answer=True)
    )
    if fields.peek("status") is None and has_output:  # optional in OpenAI's schema
        ended = "completed" if fields.peek("incomplete_details") is None else "incomplete"
        fields.keep("status", ended)
    stop, kept = parse_ending(fields, content)
    usage = parse_usage(fields.take("usage"), "usage")
    identity, model = fields.text("id") or "", fields.text("model") or ""
    extra = {**answer_extra(fields), **kept}
    return Response(
        content, stop_reason=stop, usage=usage, model=model, id=identity, extra=extra or None, dialect=NAME
    )


def parse_ending(fields: Fields, content: Sequence[ResponsePart]) -> tuple[StopReason, dict[str, Json]]:
    """Read the stop reason from `status` and `incomplete_details`.

    The returned dict contains fields for the `extra` of the response.
    """
    calls = any(isinstance(part, ToolCall) for part in content)
    refusal = any(isinstance(part, RefusalText) for part in content)
    details = fields.object("incomplete_details")
    return parse_finish(fields.take("status"), details, calls=calls, refusal=refusal)


def answer_extra(fields: Fields) -> dict[str, Json]:
    """Return the fields of an answer that the parser did not read.

    Fields that are null, and fields that repeat the request, are left out.
    """
    for name in _ECHOED:
        fields.take(name)
    if fields.peek("service_tier") == _TIER:
        fields.take("service_tier")
    return known_of(fields.rest())


def render_response(response: Response, request: Request) -> Json:
    """Convert a response into the JSON body that answers `request`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    customs = custom_names(request)
    parts = [fitted_call(part, customs) if isinstance(part, ToolCall) else part for part in response.content]
    tools = echoed_tools(request.tools, same_dialect=request.dialect == NAME)
    document = envelope(request, response.id, response.model, int(answer_time()), tools)
    items = render_answer(parts, names_of(request.tools), document["id"], same_dialect=same_dialect)
    last = parts[-1] if parts else None
    if is_cut(response.stop_reason) and isinstance(last, ToolCall) and not is_whole(last):
        items[-1]["status"] = "incomplete"
    document |= {
        "output": items,
        "usage": render_usage(response.usage or estimate_usage(request, response), same_dialect=same_dialect),
    }
    kinds = {type(part) for part in parts}
    return ending(
        document,
        request,
        response.stop_reason,
        calls=ToolCall in kinds,
        refusal=RefusalText in kinds,
        extra=response.extra if same_dialect else None,
    )


def envelope(request: Request, identity: str, model: str, created: int, tools: list[Json]) -> dict[str, Json]:
    """Return the JSON body of an answer that has just begun: the status is `in_progress`, and the output is empty.

    `tools`: the request's tools, as `echoed_tools` returns them.
    """
    extra = request.extra or {}
    same_dialect = request.dialect == NAME
    choice, wish = request.tool_choice, request.output_format
    text = {"format": render_format(wish, same_dialect=same_dialect) if wish else {"type": "text"}}
    sampling, effort = request.sampling, effort_for(request.reasoning)
    return {
        "id": identity or fresh_id("resp_"),
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
        "incomplete_details": None,
        "instructions": render_instructions(request.messages, same_dialect=same_dialect),
        "max_output_tokens": sampling.max_output_tokens,
        "max_tool_calls": extra.get("max_tool_calls"),
        "model": model or request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "presence_penalty": sampling.presence_penalty or 0.0,
        "previous_response_id": request.previous_response or request.continued_from,
        "prompt_cache_key": extra.get("prompt_cache_key"),
        "reasoning": merged({"effort": effort, "summary": None}, extra.get("reasoning") or {}),
        "safety_identifier": extra.get("safety_identifier"),
        "service_tier": _TIER,
        "store": extra.get("store") is not False,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "text": merged(text, extra.get("text") or {}),
        "tool_choice": render_choice(choice, request.tools, same_dialect=same_dialect) if choice else "auto",
        "tools": tools,
        "top_logprobs": extra.get("top_logprobs") or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "truncation": extra.get("truncation") or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": extra.get("metadata") or {},
    }


_TIER = "default"
"""The service tier that is written if the provider's tier is unknown. The requested tier is not written, because a
provider may choose another tier."""


def ending(
    document: dict[str, Json],
    request: Request,
    stop: StopReason | None,
    *,
    calls: bool,
    refusal: bool,
    extra: dict[str, Json] | None,
) -> dict[str, Json]:
    """Return the JSON body of a finished answer: `document` with the final status and the fields of `extra`."""
    codex = is_from_codex(request)
    status, reason = render_finish(stop, calls=calls, refusal=refusal, codex=codex)
    document |= {"status": status, "incomplete_details": reason and {"reason": reason}}
    known = dict(extra or {})
    if codex:
        known.pop("status", None)
        known.pop("incomplete_details", None)
    document = merged(document, known)
    if document["status"] == "completed":
        document["completed_at"] = int(answer_time())
    return document


def is_whole(call: ToolCall) -> bool:
    """Return True if a call's arguments are complete JSON.

    Return False for free text, whose end cannot be recognised.
    """
    if call.kind == "text":
        return False
    try:
        decode_json(call.arguments or "{}")
    except DialectError:
        return False
    return True


_PARSED: dict[str, StopReason] = {
    "max_output_tokens": "max_tokens",
    "content_filter": "refused",
    "max_messages": "paused",
    "steered": "paused",
}
_RENDERED: dict[StopReason, str] = {
    "max_tokens": "max_output_tokens",
    "context_full": "max_output_tokens",
    "refused": "content_filter",
}


def parse_finish(
    status: Json, details: Fields | None, *, calls: bool, refusal: bool
) -> tuple[StopReason, dict[str, Json]]:
    """Convert a `status` into a `StopReason`.

    The returned dict is part of the response's `extra`. The dict contains `status` if `render_finish` would write
    another status for the `StopReason`.

    Raises:
        UpstreamError: the answer is not finished, was aborted, or is incomplete for an unknown reason.
    """
    if (
        status == "cancelled"
    ):  # vLLM, for models in the harmony format (entrypoints/openai/responses/serving.py)
        raise aborted('status "cancelled"')
    if status == "completed":
        return settled_stop("refused" if refusal and not calls else "end", calls=calls), {}
    reason = details.text("reason") if details else None
    stop = _PARSED.get(reason or "") if status == "incomplete" else None
    if stop is None:
        raise UpstreamError(
            f"the provider's answer has a status or reason that is missing, or unknown to Responses: {status!r}, "
            f"{reason!r}"
        )
    rendered = render_finish(stop, calls=calls, refusal=refusal, codex=False)
    kept = {"status": status, "incomplete_details": {"reason": reason}}
    return stop, {} if rendered == (status, reason) else kept


def render_finish(
    stop: StopReason | None, *, calls: bool, refusal: bool, codex: bool
) -> tuple[str, str | None]:
    """Convert a `StopReason` into a `status`, and into a reason if the status is "incomplete".

    An answer with the text of a refusal has the status "completed". Every answer to Codex has this status, too, because
    Codex treats "incomplete" as fatal.
    """
    settled = settled_stop(stop, calls=calls)
    reason = _RENDERED.get(settled)
    if codex or reason is None or (settled == "refused" and refusal):
        return "completed", None
    return "incomplete", reason


def is_cut(stop: StopReason | None) -> bool:
    """Return True if the answer stopped at a token limit, which could have cut the end of the answer."""
    return stop in ("max_tokens", "context_full")


_INPUTS, _OUTPUTS = "input_tokens_details", "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Convert the JSON object `usage` into a `Usage`. Return None if `usage` is missing or has no token count.

    A field that is null counts as missing.
    """
    if isinstance(value, dict):
        value = known_of(
            {name: known_of(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        )
    return parse_openai_usage(value, path, UsageNames("input_tokens", "output_tokens"))


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        "input_tokens": usage.input_tokens,
        _INPUTS: {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens,
        _OUTPUTS: {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    return merged(document, usage.extra) if same_dialect and usage.extra else document


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
    document = render_chat_error(failure)
    error = document["error"]
    if failure.param is None and error["param"] == "messages":  # the field name of chat completions
        error["param"] = "input"
    return document


def render_event_error(failure: Failure, number: int) -> dict[str, Json]:
    """Convert a failure into the `error` event that ends a stream.

    Codex does not retry after some error codes, and retries after all others. So the code is chosen to match
    `should_retry`. In a stream, Codex does not retry after "server_is_overloaded", although Codex retries after the
    same error of an HTTP answer. So a stream gets "server_error" in place of this code.
    """
    error = render_error(failure)["error"]
    if failure.code is None and failure.should_retry is False and error["code"] != "context_length_exceeded":
        error["code"] = _STOP
    elif failure.code is None and error["code"] == "server_is_overloaded":
        error["code"] = "server_error"
    flat = {name: error[name] for name in ("code", "message", "param")}
    return {"type": "error", **flat, "sequence_number": number, "error": error}


def render_ws_error(failure: Failure) -> dict[str, Json]:
    """Convert a failure into the JSON of a websocket frame.

    Codex ignores a frame without `status`, and then waits for 300 s. On a websocket, as in a stream, Codex does not
    retry after "server_is_overloaded", whatever the status (0.169).
    """
    headers = dict(failure.headers)
    if failure.retry_after is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after))
    error = render_error(failure)["error"]
    if failure.code is None and error["code"] == "server_is_overloaded":
        error["code"] = "server_error"
    return {"type": "error", "status": failure.status, "error": error, "headers": headers}


def render_steer_failed(document: Json) -> dict[str, Json]:
    """Return the event that refuses the client's `response.steer`, a request to change an answer in progress."""
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
    """Convert a provider's error document, which may have any form, into a `Failure`.

    If `status` is below 400 (the error came in a stream), the failure has the status that belongs to the error's code.
    """
    failure = parse_chat_error(status, find_error(document) or document)
    known = _STATUSES.get(failure.code or "")
    if not 400 <= status <= 599 and known is not None:
        return msgspec.structs.replace(failure, status=known)
    return failure


def find_error(document: Json) -> Json:
    """Return the error that a provider's JSON body or event contains; None if there is no error."""
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
