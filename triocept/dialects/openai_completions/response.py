"""Whole answers of completions.

Rules:

1. `extra` mirrors the document: what the choice has beside its text (`logprobs`, `token_ids`, …) is in
   `extra["choices"][0]`.
2. `created` is always ours: the time of the answer.
3. `echo` puts the prompt before the answer. A provider of this dialect was asked for it too, and has done so.
4. All texts, a refusal's too, are one text. Reasoning is left out; a tool call cannot be said: that is an error.
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
    """The whole response that a provider sent.

    Raises:
        DialectError: with the path in the document.
        UpstreamError: it is an error, whatever its HTTP status, or it ended for an unknown reason.
    """
    fields, choice = open_answer(document)
    text = choice.text("text")
    stop, sequence = take_stop(choice, calls=False, refusal=False)
    left = known_of(choice.rest())
    return closed_answer(fields, left, (Text(text),) if text else (), stop, sequence, NAME)


def render_response(response: Response, request: Request) -> Json:
    """The document that answers `request` with `response`.

    Raises:
        DialectError: it calls a tool.
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
