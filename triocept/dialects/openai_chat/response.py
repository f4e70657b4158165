"""Whole answers of chat completions.

Rules:

1. `extra` mirrors the document: unknown fields of the choice (`logprobs`, `token_ids`, …) are in
   `extra["choices"][0]`, those of the message in `extra["choices"][0]["message"]`.
2. `created` is always the time of triocept's answer.
3. A refusal text makes the answer a refusal.
4. Several texts, or several pieces of reasoning, become one: the wire cannot hold their order.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason
from ...errors import DialectError
from .._arguments import custom_names, fitted_call
from .._clock import answer_time
from .._documents import Fields, is_same_dialect, merged
from .._failures import error_of
from .._ids import fresh_id
from .ending import parse_finish, parse_usage, render_finish, render_usage
from .error import find_error, parse_error
from .messages import assistant_parts
from .names import NAME
from .reasoning import render_reasoning
from .tools import render_call

MATCHED = ("stop_reason", "matched_stop")


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its finish reason is unknown.
    """
    fields, choice = open_answer(document)
    message = choice.need_object("message")
    message.take("role")
    content: tuple[ResponsePart, ...] = tuple(
        part for part in assistant_parts(message) if isinstance(part, ResponsePart)
    )
    calls = any(isinstance(part, ToolCall) for part in content)
    refusal = any(isinstance(part, RefusalText) for part in content)
    stop, sequence = take_stop(choice, calls=calls, refusal=refusal)
    if choice.peek("logprobs") is None:
        choice.take("logprobs")
    choice.keep("message", message.rest())
    left = choice.rest()
    return closed_answer(fields, left, content, stop, sequence, NAME)


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
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
                calls.append(_render_call(part, request, same_dialect=same_dialect))
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
    """Return the fields of an answer, and those of its choice; raise as `parse_response` does."""
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    return fields, _first_choice(fields)


def take_stop(choice: Fields, *, calls: bool, refusal: bool) -> tuple[StopReason, str | None]:
    """Return stop reason and stop sequence of a choice."""
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
    stop: StopReason,
    sequence: str | None,
    dialect: str,
) -> Response:
    """Return the response of an answer; `left` holds the unread fields of its choice."""
    for known in ("object", "created"):
        fields.take(known)
    usage = parse_usage(fields.take("usage"), "usage")
    fields.keep("choices", left and [left])
    return Response(
        content,
        stop_reason=stop,
        stop_sequence=sequence,
        usage=usage,
        model=fields.text("model") or "",
        id=fields.text("id") or "",
        extra=fields.rest(),
        dialect=dialect,
    )


def render_answer(
    response: Response,
    request: Request,
    choice: dict[str, Json],
    kind: str,
    prefix: str,
    *,
    same_dialect: bool,
) -> Json:
    """Return the document of an answer with this choice.

    Args:
        response: the answer.
        request: the answered request.
        choice: the only choice.
        kind: the `object` of the document.
        prefix: the prefix of a generated id.
        same_dialect: True if the response's `extra` uses this dialect's field names.
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


def _first_choice(fields: Fields) -> Fields:
    """Return the choice of index 0, or the nearest index: only one choice was requested."""
    choices = [Fields(item, path) for path, item in fields.items("choices")]
    if not choices:
        raise DialectError("there is no choice", path="choices")
    return min(choices, key=lambda choice: choice.integer("index") or 0)


def _render_call(call: ToolCall, request: Request, *, same_dialect: bool) -> dict[str, Json]:
    return render_call(_with_id(fitted_call(call, custom_names(request))), same_dialect=same_dialect)


def _with_id(call: ToolCall) -> ToolCall:
    return call if call.id else msgspec.structs.replace(call, id=fresh_id("call_"))
