"""Answers of completions, whole and streamed; errors are those of chat completions, with `prompt` for an overflow.

Whole answers:

1. `extra` mirrors the document: further fields of the choice (`logprobs`, `token_ids`, …) are in
   `extra["choices"][0]`.
2. `created` is always the time of triocept's answer.
3. `echo` puts the prompt before the answer. A provider of this dialect received `echo`, too, and has already done so.
4. All texts, a refusal's too, are one text. Reasoning is left out; a tool call cannot be expressed, and raises an
   error.

Streams are parsed by the rules of `ChunkParser`; a choice may have no text. Rendered:

1. A stream is chunks of text, exactly one finish chunk, the usage chunk on request, and `[DONE]`.
2. An echoed prompt is the first chunk (see `echo_of`).
"""

from __future__ import annotations

from ..._canonical.content import Json, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason
from ...errors import DialectError
from .._documents import Fields, encode_text, is_same_dialect, known_of, merged
from .._failures import OVERFLOW, Failure
from ..openai_chat.response import (
    MATCHED,
    closed_answer,
    open_answer,
    parse_finish,
    render_answer,
    render_finish,
    take_stop,
)
from ..openai_chat.response import render_error as render_chat_error
from ..openai_chat.stream_parser import ChunkParser
from ..openai_chat.stream_renderer import ChunkRenderer
from ..streams import EventBuilder
from .request import NAME, text_of


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
    document = render_chat_error(failure)
    if document["error"]["code"] == OVERFLOW and failure.param is None:
        document["error"]["param"] = "prompt"
    return document


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


class Parser(ChunkParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = EventBuilder()

    def _content(self, choice: Fields, events: list[Event]) -> None:
        self._parts.text(Text(""), choice.text("text") or "", events)

    def _close_parts(self, events: list[Event]) -> None:
        self._parts.close(events)

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched, calls=False, refusal=False)


_BEFORE = b'"choices":[{"text":'
_BEHIND = b',"index":0,"logprobs":null,"finish_reason":null}]}\n\n'


class Renderer(ChunkRenderer):
    """A renderer of one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, NAME, "text_completion", "cmpl-", render_error)
        self._texts: set[int] = set()  # the open parts that are text

    def render(self, event: Event) -> bytes:
        """Return the bytes that `event` adds to the body.

        Raises:
            DialectError: the part is a tool call.
        """
        match event:
            case PartDelta(index=index, text=text):
                return self._text(text) if index in self._texts else b""
            case PartStart(index=index, part=part):
                text = render_part(part)
                if not isinstance(part, Text | RefusalText):
                    return b""
                self._texts.add(index)
                return self._text(text)
            case PartEnd(index=index):
                self._texts.discard(index)
                return b""
            case PartBlob():
                return b""
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head(response_id, "")
        return self._chunk("")

    def _start(self, event: ResponseStart) -> bytes:
        self._begin(event)
        echo = echo_of(self._request, event.dialect)
        data = self._chunk(echo) if echo else b""
        if self._own and event.extra:
            data += self._line({**event.extra, "choices": []})
        return data

    def _text(self, text: str) -> bytes:
        self._characters += len(text)
        return self._chunk(text) if text else b""

    def _end(self, event: ResponseEnd) -> bytes:
        finish = render_finish(event.stop_reason, calls=False, refusal=False)
        choice: dict[str, Json] = {"text": "", "index": 0, "logprobs": None, "finish_reason": finish}
        if event.stop_sequence is not None:
            choice[MATCHED[0]] = event.stop_sequence
        document: dict[str, Json] = {"choices": [choice]}
        data = self._line(merged(document, event.extra) if self._own and event.extra else document)
        return data + self._tail(event.usage)

    def _chunk(self, text: str) -> bytes:
        return self._head + _BEFORE + encode_text(text) + _BEHIND
