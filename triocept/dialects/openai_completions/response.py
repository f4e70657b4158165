"""Whole answers of completions.

Rules:

1. `extra` mirrors the document: what the choice has beside its text (`logprobs`, `token_ids`, …) is in
   `extra["choices"][0]`.
2. `created` is always ours: the time of the answer.
3. `echo` puts the prompt before the answer. A provider of this dialect was asked for it too, and has done so.
4. All texts, a refusal's too, are one text. Reasoning is left out; a tool call cannot be said: that is an error.
"""

from __future__ import annotations

import time

from ..._canonical.content import Json, RefusalText, Text, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart
from ...errors import DialectError
from .._failures import error_of
from .._fields import Fields, merged
from .._ids import fresh_id
from ..openai_chat.error import find_error, parse_error
from ..openai_chat.response import MATCHED, first_choice
from ..openai_chat.usage import parse_usage, render_usage
from .finish import parse_finish, render_finish
from .names import NAME, is_own
from .prompts import text_of

__all__ = ["echo_of", "parse_response", "render_part", "render_response"]


def parse_response(document: Json) -> Response:
    """The whole response that a provider sent.

    Raises:
        DialectError: with the path in the document.
        UpstreamError: it is an error, whatever its HTTP status, or it ended for an unknown reason.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    fields = Fields(document)
    choice = first_choice(fields)
    text = choice.text("text")
    matched = next((found for name in MATCHED if isinstance(found := choice.peek(name), str)), None)
    stop, sequence = parse_finish(choice.take("finish_reason"), matched)
    for name in MATCHED if sequence is not None else ():
        if choice.peek(name) == sequence:
            choice.take(name)
    for known in ("object", "created"):
        fields.take(known)
    left = {name: value for name, value in (choice.rest() or {}).items() if value is not None}
    usage = parse_usage(fields.take("usage"), "usage")
    fields.keep("choices", left and [left])
    return Response(
        (Text(text),) if text else (),
        stop_reason=stop,
        stop_sequence=sequence,
        usage=usage,
        model=fields.text("model") or "",
        id=fields.text("id") or "",
        extra=fields.rest(),
        dialect=NAME,
    )


def render_response(response: Response, request: Request) -> Json:
    """The document that answers `request` with `response`.

    Raises:
        DialectError: it calls a tool.
    """
    own = is_own(response.dialect)
    text = "".join(render_part(part) for part in response.content)
    choice: dict[str, Json] = {
        "text": echo_of(request, response.dialect) + text,
        "index": 0,
        "logprobs": None,
        "finish_reason": render_finish(response.stop_reason),
    }
    if response.stop_sequence is not None:
        choice[MATCHED[0]] = response.stop_sequence
    document: dict[str, Json] = {
        "id": response.id or fresh_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": response.model or request.model,
        "choices": [choice],
    }
    if response.usage is not None:
        document["usage"] = render_usage(response.usage, own=own)
    return merged(document, response.extra) if own and response.extra else document


def echo_of(request: Request, dialect: str) -> str:
    """What stands before an answer that came in `dialect`: the prompt, where it is to be echoed."""
    wanted = (request.extra or {}).get("echo") if request.dialect == NAME else None
    return text_of(request.messages) if wanted is True and dialect != NAME else ""


def render_part(part: ResponsePart) -> str:
    """The text of a part.

    Raises:
        DialectError: it is a tool call.
    """
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case ToolCall(name=name):
            raise DialectError(f"completions have no tool calls: that of {name!r} cannot be written")
        case _:
            return ""
