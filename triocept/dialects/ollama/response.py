"""Parse and render answers and errors of `/api/chat`. A streamed answer has one JSON document in each line.

Rules:

1. Further fields of the document (`total_duration`, `logprobs`, …) are in `extra`, and further fields of its message
   are in `extra["message"]`. `created_at` is always the time of triocept's answer.
2. In this API, an answer has no id.
3. The text of a refusal is written as text. Signatures, and parts that only other dialects can express, are left out.
4. Unknown token counts are estimated, because clients require the counts.

The last document of an answer has `done_reason`, `prompt_eval_count` and `eval_count`; the API has no further token
counts. The reason is `stop` for answers with tool calls and for refusals, too. Servers before 0.1.40 write no reason.
An unknown reason raises an error, because triocept never invents a stop reason. A server that has the whole prompt in
its cache may leave `prompt_eval_count` out.

An error is `{"error": "the message"}`, as a body or as a line of a stream. Besides the message, an error has only its
HTTP status. The message may be a JSON document: the error of llama.cpp, Ollama's engine (Ollama 0.40).

These rules turn the documents of one answer (one document if the answer is not streamed) into events:

1. A text continues a directly preceding text, and thinking continues directly preceding thinking. Each tool call is
   complete.
2. The document with `done` is the last document. This document has the reason and the usage, and may have content.
3. Unknown fields of the documents are combined in the `extra` of `ResponseEnd`, so that the combined fields equal the
   fields of an answer that is not streamed.

Parser of a stream:

1. A document with `error` means that the provider failed. A stream that ends before `done` was truncated.
2. The last line need not end with a line feed.

Renderer of a stream:

1. No empty line is written, because the official Python client crashes on an empty line.
2. Parts are written strictly one after the other. Text is written when it arrives. A tool call is written when it is
   complete, because the API cannot express a fragment of a call.
3. The last document has the reason, the usage (estimated if unknown), and further fields of the answer.
4. A keep-alive is a document with empty content.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from ..._canonical.content import Json, Media, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response, StopReason, Usage, settled_stop
from ..._canonical.tokens import estimate_streamed, estimate_usage
from ...errors import DialectError, UpstreamError, UpstreamTruncated
from .._clock import answer_time
from .._documents import (
    Fields,
    decode_json,
    encode_json,
    encode_text,
    gather,
    hides_letters,
    is_same_dialect,
    known_of,
    merged,
)
from .._failures import (
    OVERFLOW,
    Failure,
    error_of,
    error_text,
    is_overflow,
    is_overflow_failure,
    overflow_counts,
    overflow_words,
    status_of,
)
from ..streams import (
    LINE_FRAMES,
    EventBuilder,
    LineDecoder,
    PartEvent,
    PartSequence,
    StreamParser,
    StreamRenderer,
    encode_line,
)
from .request import NAME, message_parts, render_parts


def parse_response(document: Json) -> Response:
    """Convert a provider's JSON body (not streamed) into a `Response`; see `Dialect.parse_response`."""
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    events: list[Event] = []
    chunks = Chunks()
    chunks.take(document, events)
    chunks.close()
    return assemble(events)


def render_response(response: Response, request: Request) -> Json:
    same_dialect = is_same_dialect(response.dialect, NAME)
    document: dict[str, Json] = {
        "model": response.model or request.model,
        "created_at": now(),
        "message": {"role": "assistant", **render_parts(response.content, same_dialect=same_dialect)},
        "done": True,
        "done_reason": render_finish(response.stop_reason),
        **render_usage(response.usage or estimate_usage(request, response)),
    }
    return merged(document, response.extra) if same_dialect and response.extra else document


def now() -> str:
    """Return the creation time to write into an answer, as text in the format that Go writes (RFC 3339)."""
    return datetime.fromtimestamp(answer_time(), UTC).isoformat().replace("+00:00", "Z")


_PARSED: dict[str, StopReason] = {"": "end", "stop": "end", "length": "max_tokens"}


def parse_finish(reason: Json, *, calls: bool) -> StopReason:
    """Convert a `done_reason` into a `StopReason`. Raise `UpstreamError` if the reason is unknown.

    An example of an unknown reason is `load`, which Ollama sends after an empty prompt.
    """
    stop = _PARSED.get(reason or "") if isinstance(reason, str | None) else None
    if stop is None:
        raise UpstreamError(f"the stop reason of the provider's answer is unknown to Ollama: {reason!r}")
    return settled_stop(stop, calls=calls)


def render_finish(stop: StopReason | None) -> str:
    return "length" if stop in ("max_tokens", "context_full") else "stop"


_INPUT, _OUTPUT = "prompt_eval_count", "eval_count"


def take_usage(fields: Fields) -> Usage | None:
    inputs, outputs = fields.count(_INPUT), fields.count(_OUTPUT)
    if inputs is None and outputs is None:
        return None
    return Usage(input_tokens=inputs or 0, output_tokens=outputs or 0)


def render_usage(usage: Usage) -> dict[str, Json]:
    return {_INPUT: usage.input_tokens, _OUTPUT: usage.output_tokens}


_TOO_LONG = "maximum context length"


def render_error(failure: Failure) -> Json:
    message = failure.message
    if is_overflow_failure(failure):
        message = overflow_words(
            message,
            known=_TOO_LONG,
            counted=f"the input of {{tokens}} tokens exceeds the {_TOO_LONG} of {{most}} tokens",
            uncounted=f"the input exceeds the {_TOO_LONG}",
        )
    return {"error": message}


def parse_error(status: int, document: Json) -> Failure:
    """Convert a provider's error document, which may have any form, into a `Failure`."""
    error = find_error(document) or document
    inner = _engine_error(error)
    message = error_text(inner or error, document, status)
    kind = inner.get("type")
    if is_overflow(message, kind if isinstance(kind, str) else None):
        tokens, most = inner.get("n_prompt_tokens"), inner.get("n_ctx")
        if overflow_counts(message) is None and isinstance(tokens, int) and isinstance(most, int):
            message = f"{message} ({tokens} tokens, and {most} fit)"
        return Failure(status=400, message=message, code=OVERFLOW)
    return Failure(status=status_of(status), message=message)


def find_error(document: Json) -> Json:
    return document.get("error") or None if isinstance(document, dict) else None


def _engine_error(error: Json) -> dict[str, Json]:
    """Return the JSON error of llama.cpp, Ollama's engine, that the text `error` contains; else an empty dict."""
    if not isinstance(error, str) or not error.startswith("{"):
        return {}
    try:
        document = decode_json(error)
    except DialectError:
        return {}
    inner = find_error(document) or document
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) and isinstance(inner.get("message"), str) else {}


class Chunks:
    """A converter of an answer's JSON documents to triocept's events. `take` appends events to the list `events`."""

    def __init__(self) -> None:
        self._parts = EventBuilder()
        self._started = False
        self._calls = False
        self._extra: dict[str, Json] = {}
        self.done: bool = False
        """True if the last document was received."""

    def take(self, document: Json, events: list[Event]) -> None:
        """Append the events of `document` to `events`. Ignore documents after the document with `"done": true`."""
        if self.done:
            return
        fields = Fields(document)
        model, done = fields.text("model") or "", fields.flag("done") or False
        reason, usage = fields.take("done_reason"), take_usage(fields)
        fields.take("created_at")
        message = fields.object("message")
        if not self._started:
            self._started = True
            events.append(ResponseStart(model=model, dialect=NAME))
        if message is not None:
            message.take("role")
            for part in message_parts(message):
                match part:
                    case Text(text=text):
                        self._parts.text(Text(""), text, events)
                    case Reasoning(text=text):
                        self._parts.text(Reasoning(), text, events)
                    case ToolCall():
                        self._calls = True
                        self._parts.whole(part, events)
                    case Media(data=data):  # no model writes media, and no canonical answer can hold them
                        gather(self._extra, {"message": {"images": [data]}})
            fields.keep("message", known_of(message.rest()))
        gather(self._extra, known_of(fields.rest()))
        if done:
            self.done = True
            self._parts.close(events)
            stop = parse_finish(reason, calls=self._calls)
            events.append(ResponseEnd(stop_reason=stop, usage=usage, extra=self._extra or None))

    def close(self) -> None:
        if not self.done:
            raise UpstreamTruncated("the provider's answer ended without a document with `done`")


_LINES = re.compile(
    rb'(?:\{"model":[^\r\n]*+(?<=\})(?:\r\n|\n))++'
)  # Ollama begins each document in this form
_DOUBT = re.compile(rb'"(?:error"|tool_calls"|done"\s*+:\s*+(?!false))')


class Parser(StreamParser):
    frame_end = LINE_FRAMES

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._chunks = Chunks()

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.feed(data):
            self._take(line, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _LINES.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._chunks.done

    def close(self) -> list[Event]:
        events: list[Event] = []
        if not self._chunks.done:
            for line in self._lines.close():
                with suppress(DialectError):  # an incomplete document is skipped
                    self._take(line, events)
            self._chunks.close()
        return events

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._chunks.done:
            return
        document = decode_json(line)
        if find_error(document) is not None:
            raise error_of(parse_error(0, document), body=line.decode("utf-8", "replace"))
        self._chunks.take(document, events)


_TEXT = b'{"role":"assistant","content":'
_THINKING = b'{"role":"assistant","content":"","thinking":'
_BEHIND = b'},"done":false}\n'


class Renderer(StreamRenderer):
    def __init__(self, request: Request) -> None:
        self._request = request
        self._own = True
        self._head = b""
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}
        self._sequence = PartSequence()
        self._before: bytes | None = None
        """The bytes to write before a delta of the current part; None if the part is not text."""
        self._call: ToolCall | None = None
        self._held: list[str] = []
        self._characters = 0

    def render(self, event: Event) -> bytes:
        match event:
            case ResponseStart():
                self._own = is_same_dialect(event.dialect, NAME)
                self._usage = event.usage
                self._extra = dict(event.extra or {}) if self._own else {}
                self._open_head(event.model)
                return b""
            case ResponseEnd():
                return self._end(event)
            case _:
                return b"".join([self._part(each) for each in self._sequence.add(event)])

    def fail(self, failure: Failure) -> bytes:
        return encode_line(render_error(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head("")
        return self._head + _TEXT + b'""' + _BEHIND

    def _open_head(self, model: str) -> None:
        if not self._head:
            self._head = encode_json(self._about(model))[:-1] + b',"message":'

    def _about(self, model: str) -> dict[str, Json]:
        self._model = model or self._request.model
        return {"model": self._model, "created_at": now()}

    def _part(self, event: PartEvent) -> bytes:
        match event:
            case PartDelta(text=text):
                return self._text(text)
            case PartStart(part=Text(text=text) | RefusalText(text=text)):
                self._before = self._head + _TEXT
                return self._text(text)
            case PartStart(part=Reasoning(text=text)):
                self._before = self._head + _THINKING
                return self._text(text)
            case PartStart(part=ToolCall() as call):
                self._call, self._held = call, [call.arguments]
                self._characters += len(call.name) + len(call.arguments)
            case PartEnd():
                ended, self._call, self._before = self._call, None, None
                if ended is not None:
                    whole = msgspec.structs.replace(ended, arguments="".join(self._held))
                    message = {"role": "assistant", **render_parts([whole], same_dialect=self._own)}
                    return self._head + encode_json(message)[:-1] + _BEHIND
        return b""

    def _text(self, text: str) -> bytes:
        self._characters += len(text)
        if self._call is not None:
            self._held.append(text)
        if self._before is None or not text:
            return b""
        return self._before + encode_text(text) + _BEHIND

    def _end(self, event: ResponseEnd) -> bytes:
        usage = event.usage or self._usage or estimate_streamed(self._request, self._characters)
        document: dict[str, Json] = {
            **self._about(self._model),
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": render_finish(event.stop_reason),
            **render_usage(usage),
        }
        extra = {**self._extra, **(event.extra or {})} if self._own else {}
        return encode_line(merged(document, extra) if extra else document)
