"""Whole answers of Responses.

Rules:

1. An answer repeats fields of its request (instructions, tools, sampling, …), always those of the agent's own request;
   an upstream's are not kept. All fields that Open Responses requires are present, null or default if unknown
   (openresponses.org, schema `ResponseResource`).
2. `extra` mirrors the document (`service_tier`, `end_turn`, …), without nulls.
3. Usage has all numbers: unknown ones are estimated, for some clients refuse an answer without them.
4. A last call that a token limit may have cut is marked `incomplete`.
5. Codex gets the status `completed`, whatever the stop reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import Json, RefusalText, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason
from ..._canonical.tokens import estimate_usage
from ...errors import DialectError
from .._arguments import custom_names, fitted_call
from .._clock import answer_time
from .._documents import Fields, decode_json, is_same_dialect, known_of, merged
from .._efforts import effort_for
from .._failures import error_of
from .._ids import fresh_id
from .ending import is_cut, parse_finish, parse_usage, render_finish, render_usage
from .error import find_error, parse_error
from .formats import render_format
from .items import parse_item, render_answer
from .messages import render_instructions
from .names import NAME, asks_as_codex
from .namespaces import NO_NAMES, Names
from .tools import render_choice, render_tools

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
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or the answer is not finished.
    """
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
    """Return the stop reason of an answer with this content, and the wire's fields to keep."""
    calls = any(isinstance(part, ToolCall) for part in content)
    refusal = any(isinstance(part, RefusalText) for part in content)
    details = fields.object("incomplete_details")
    return parse_finish(fields.take("status"), details, calls=calls, refusal=refusal)


def answer_extra(fields: Fields) -> dict[str, Json]:
    """Return the further fields of an answer, without nulls and without fields that it repeats from its request."""
    for name in _ECHOED:
        fields.take(name)
    if fields.peek("service_tier") == _TIER:
        fields.take("service_tier")
    return known_of(fields.rest())


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    customs = custom_names(request)
    parts = [fitted_call(part, customs) if isinstance(part, ToolCall) else part for part in response.content]
    document = envelope(request, response.id, response.model, int(answer_time()))
    items = render_answer(parts, Names(request.tools), document["id"], same_dialect=same_dialect)
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


def envelope(request: Request, identity: str, model: str, created: int) -> dict[str, Json]:
    """Return an answer that has just begun: `in_progress`, without output."""
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
        "tools": [_repeated(tool) for tool in render_tools(request.tools, same_dialect=same_dialect)],
        "top_logprobs": extra.get("top_logprobs") or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "truncation": extra.get("truncation") or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": extra.get("metadata") or {},
    }


_TIER = "default"
"""The default service tier of an answer, which may differ from the requested one: a provider may return another."""
_FUNCTION: dict[str, Json] = {"description": None, "parameters": None, "strict": None}
"""The fields that a function in an answer always has."""


def _repeated(tool: Json) -> Json:
    return {**tool, **_FUNCTION, **tool} if tool.get("type") == "function" else tool


def ending(
    document: dict[str, Json],
    request: Request,
    stop: StopReason | None,
    *,
    calls: bool,
    refusal: bool,
    extra: dict[str, Json] | None,
) -> dict[str, Json]:
    """Return the final document: with its status, and the fields of `extra`."""
    codex = asks_as_codex(request)
    status, reason = render_finish(stop, calls=calls, refusal=refusal, codex=codex)
    document |= {"status": status, "incomplete_details": reason and {"reason": reason}}
    known = dict(extra or {})
    if codex:
        known.pop("status", None)
        known.pop("incomplete_details", None)
    both: dict[str, Json] = merged(document, known)
    if both["status"] == "completed":
        both["completed_at"] = int(answer_time())
    return both


def is_whole(call: ToolCall) -> bool:
    """Return True if the arguments are complete JSON; False for free text, whose end is unknown."""
    if call.kind == "text":
        return False
    try:
        decode_json(call.arguments or "{}")
    except DialectError:
        return False
    return True
