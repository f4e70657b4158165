"""Whole answers of completions.

Rules:

1. `extra` mirrors the document: further fields of the choice (`logprobs`, `token_ids`, …) are in
   `extra["choices"][0]`.
2. `created` is always the time of triocept's answer.
3. `echo` puts the prompt before the answer. A provider of this dialect received `echo`, too, and has already done so.
4. All texts, a refusal's too, are one text. Reasoning is left out; a tool call cannot be expressed, and raises an
   error.
"""

from __future__ import annotations

from ..._canonical.content import Json, RefusalText, Text, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart
from ...errors import DialectError
from .._documents import is_same_dialect, known_of
from ..openai_chat.ending import render_finish
from ..openai_chat.response import closed_answer, open_answer, render_answer, take_stop
from .names import NAME
from .prompts import text_of


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its finish reason is unknown.
    """
    fields, choice = open_answer(document)
    text = choice.text("text")
    stop, sequence = take_stop(choice, calls=False, refusal=False)
    left = known_of(choice.rest())
    return closed_answer(fields, left, (Text(text),) if text else (), stop, sequence, NAME)


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`.

    Raises:
        DialectError: the response calls a tool.
    """
    text = "".join([render_part(part) for part in response.content])
    choice: dict[str, Json] = {
        "text": echo_of(request, response.dialect) + text,
        "index": 0,
        "logprobs": None,
        "finish_reason": render_finish(response.stop_reason, calls=False, refusal=False),
    }
    same_dialect = is_same_dialect(response.dialect, NAME)
    return render_answer(response, request, choice, "text_completion", "cmpl-", same_dialect=same_dialect)


def echo_of(request: Request, dialect: str) -> str:
    """Return the echoed prompt before an answer that came in `dialect`; empty without `echo`."""
    wanted = (request.extra or {}).get("echo") if request.dialect == NAME else None
    return text_of(request.messages) if wanted is True and dialect != NAME else ""


def render_part(part: ResponsePart) -> str:
    """Return the text of a part.

    Raises:
        DialectError: the part is a tool call.
    """
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case ToolCall(name=name):
            raise DialectError(f"completions have no tool calls: that of {name!r} cannot be written")
        case _:
            return ""
