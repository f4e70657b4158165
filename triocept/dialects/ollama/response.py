"""Whole answers of `/api/chat` (a stream of one document), and errors.

Rules:

1. Further fields of the document (`total_duration`, `logprobs`, …) are in `extra`, those of its message in
   `extra["message"]`. `created_at` is always the time of triocept's answer.
2. An answer has no id on this wire.
3. A refusal in words is a text; signatures and other wires' own parts are left out.
4. Clients rely on the numbers: unknown usage is estimated.

Its end has `done_reason`, `prompt_eval_count` and `eval_count`; the wire has no further usage. Tool turns and refusals
have no reason of their own: both are `stop`. Servers before 0.1.40 write no reason. An unknown reason is a failure:
triocept never invents one. A server that had the whole prompt in its cache may leave the first count out.

Errors: `{"error": "the message"}`, as a body and as a line of a stream. Other facts are in the HTTP status alone. The
message may be a JSON document: the answer of llama.cpp, Ollama's engine (Ollama 0.40).

The documents that make up one answer (a single one without a stream), as events:

1. Text joins the text before it, and thinking joins the thinking before it. A call comes whole.
2. The document with `done` is the last; it has the reason and the usage, and may have content.
3. Unknown fields of documents are gathered into the `extra` of `ResponseEnd`, in the form that a whole answer has.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ..._canonical.content import Json, Media, Reasoning, Text, ToolCall
from ..._canonical.events import Event, ResponseEnd, ResponseStart, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response, StopReason, Usage, settled_stop
from ..._canonical.tokens import estimate_usage
from ...errors import DialectError, UpstreamError, UpstreamTruncated
from .._clock import answer_time
from .._documents import Fields, decode_json, gather, is_same_dialect, known_of, merged
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
from ..streams import EventBuilder
from .messages import NAME, message_parts, render_parts


def parse_response(document: Json) -> Response:
    """Return the whole response that a provider sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
        UpstreamError: the document is an error, whatever its HTTP status, or its reason is unknown.
        UpstreamTruncated: the answer is not complete.
    """
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    events: list[Event] = []
    chunks = Chunks()
    chunks.take(document, events)
    chunks.close()
    return assemble(events)


def render_response(response: Response, request: Request) -> Json:
    """Return the document that answers `request` with `response`."""
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
    """Return the time of the answer in Go's format."""
    return datetime.fromtimestamp(answer_time(), UTC).isoformat().replace("+00:00", "Z")


_PARSED: dict[str, StopReason] = {"": "end", "stop": "end", "length": "max_tokens"}


def parse_finish(reason: Json, *, calls: bool) -> StopReason:
    """Return the stop reason.

    Raises:
        UpstreamError: the reason is unknown (`load`, for example: the prompt was empty).
    """
    stop = _PARSED.get(reason or "") if isinstance(reason, str | None) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Ollama: {reason!r}")
    return settled_stop(stop, calls=calls)


def render_finish(stop: StopReason | None) -> str:
    """Return the `done_reason`."""
    return "length" if stop in ("max_tokens", "context_full") else "stop"


_INPUT, _OUTPUT = "prompt_eval_count", "eval_count"


def take_usage(fields: Fields) -> Usage | None:
    """Return the usage in the last document of an answer; None if it contains no count."""
    inputs, outputs = fields.count(_INPUT), fields.count(_OUTPUT)
    if inputs is None and outputs is None:
        return None
    return Usage(input_tokens=inputs or 0, output_tokens=outputs or 0)


def render_usage(usage: Usage) -> dict[str, Json]:
    """Return the fields of the usage."""
    return {_INPUT: usage.input_tokens, _OUTPUT: usage.output_tokens}


_TOO_LONG = "maximum context length"


def render_error(failure: Failure) -> Json:
    """Return the error document for `failure`."""
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
    """Return the failure in a provider's error document, whatever the document."""
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
    """Return the error in a document that came in place of an answer; None if the document has no error."""
    return document.get("error") or None if isinstance(document, dict) else None


def _engine_error(error: Json) -> dict[str, Json]:
    """Return the engine's error if Ollama's message is one; an empty dict for any other message."""
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
    """A builder of events: it takes the documents of one answer, and appends events."""

    def __init__(self) -> None:
        self._parts = EventBuilder()
        self._started = False
        self._calls = False
        self._extra: dict[str, Json] = {}
        self.done: bool = False
        """True if the last document has come."""

    def take(self, document: Json, events: list[Event]) -> None:
        """Take one document; documents after the last one are skipped."""
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
            self._add_parts(message, events)
            fields.keep("message", known_of(message.rest()))
        gather(self._extra, known_of(fields.rest()))
        if done:
            self.done = True
            self._parts.close(events)
            stop = parse_finish(reason, calls=self._calls)
            events.append(ResponseEnd(stop_reason=stop, usage=usage, extra=self._extra or None))

    def close(self) -> None:
        """Check that the answer is complete.

        Raises:
            UpstreamTruncated: the last document never came.
        """
        if not self.done:
            raise UpstreamTruncated("the provider's answer ended before it was done")

    def _add_parts(self, message: Fields, events: list[Event]) -> None:
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
                case _:
                    pass
