"""Parse and render answers of generateContent, with their finish reasons and usage, and errors of this API.

Rules:

1. An answer that is not streamed is parsed like a stream of one chunk.
2. `extra` has the structure of the document: further fields of the candidate (`safetyRatings`, `groundingMetadata`, …)
   are in `extra["candidates"][0]`.
3. Unknown token counts are estimated, because gemini-cli requires them.
4. A refusal that the model wrote as text becomes a text part, and the finish reason is `SAFETY`. The API has no field
   for a refusal.
5. The answer to a blocked prompt has no candidate.

These rules turn the chunks of one answer (one chunk if it is not streamed) into events:

1. A plain text continues a directly preceding text, and a thought continues a directly preceding thought, even across
   chunks. A part with further fields (a signature, …) is a separate part.
2. A signature ends its thought.
3. A tool call comes complete in one part. An empty text without further fields is skipped.
4. `candidates`, `content` and `parts` may be missing. A blocked prompt counts as a refusal.
5. The finish reason completes the content: only usage and unknown fields are read from later chunks.

An answer with tool calls has no special finish reason: its reason is `STOP`. A reason such as `MALFORMED_FUNCTION_CALL`
means that the model gave no answer. Such a reason raises an error, and never becomes a stop reason.

`promptTokenCount` includes the cached tokens, `candidatesTokenCount` excludes thoughts. So `Usage.output_tokens` is the
sum of the tokens of candidates and thoughts. `Usage.input_tokens` is the sum of the prompt's tokens and the tokens that
the provider's own tools added. Further counts (by modality, …) are stored in `Usage.extra` under their own names. The
API does not count the tokens that are written to a cache.

Google's errors have the form `{"error": {code, message, status, details}}`; in a stream, this object may be the only
item of a list. `code` is the HTTP status, and `status` is the name of the gRPC status. `details` contains a retry delay
as `RetryInfo`, which gemini-cli reads in place of the header.
"""

from __future__ import annotations

import re

import msgspec

from ..._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage, settled_stop
from ..._canonical.tokens import estimate_usage
from ...errors import UpstreamError, UpstreamTruncated
from .._calls import fresh_id, with_id
from .._documents import gather, is_same_dialect, known_of, merged, present
from .._failures import (
    OVERFLOW,
    Failure,
    error_of,
    error_text,
    is_overflow,
    is_overflow_failure,
    overflow_words,
    status_of,
)
from ..streams import EventBuilder
from .parts import NAME, ProtoFields, parse_part, render_call, render_part, render_reasoning


def parse_response(document: Json) -> Response:
    """Convert a provider's JSON body (not streamed) into a `Response`; see `Dialect.parse_response`."""
    if find_error(document) is not None:
        raise error_of(parse_error(0, document))
    events: list[Event] = []
    chunks = Chunks()
    chunks.take(document, events)
    chunks.end(events)
    return assemble(events)


def render_response(response: Response, request: Request) -> Json:
    """Convert a response into the JSON body that answers `request`."""
    same_dialect = is_same_dialect(response.dialect, NAME)
    extra = (response.extra or {}) if same_dialect else {}
    parts: list[dict[str, Json]] = []
    calls = refusal = False
    for part in response.content:
        match part:
            case Reasoning():
                parts += render_reasoning(part, same_dialect=same_dialect, answer=True)
            case ToolCall():
                calls = True
                parts.append(render_call(with_id(part), same_dialect=same_dialect))
            case _:
                refusal = refusal or isinstance(part, RefusalText)
                parts += present([render_part(part, same_dialect=same_dialect)])
    candidate = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": render_finish(response.stop_reason, calls=calls, refusal=refusal),
        "index": 0,
    }
    usage = response.usage or estimate_usage(request, response)
    document: dict[str, Json] = {} if is_blocked(extra, parts) else {"candidates": [candidate]}
    document |= {
        "usageMetadata": render_usage(usage, same_dialect=same_dialect),
        "modelVersion": response.model or request.model,
        "responseId": response.id or fresh_id(""),
    }
    return merged(document, extra) if extra else document


def is_blocked(extra: dict[str, Json], parts: object) -> bool:
    """Return True if the provider blocked the prompt: `extra` has a block reason, and the answer has no content."""
    feedback = extra.get("promptFeedback")
    blocked = isinstance(feedback, dict) and feedback.get("blockReason")
    return bool(blocked) and not parts and "candidates" not in extra


_LOGPROBS = "logprobsResult"  # of each chunk's own tokens; other fields are repeated in every chunk


class Chunks:
    """A converter of an answer's JSON chunks to triocept's events. The methods append events to the list `events`."""

    def __init__(self) -> None:
        self._started = False
        self._parts = EventBuilder()
        self._calls = False
        self._finish: Json = None
        self._words: Json = None
        self._blocked = False
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}
        self._beside: dict[str, Json] = {}  # further fields of the candidate

    def take(self, document: Json, events: list[Event]) -> None:
        """Append the events of one chunk (`document`) to `events`."""
        fields = ProtoFields(document)
        candidates = fields.each("candidates")
        identity, model = fields.text("responseId"), fields.text("modelVersion")
        if not self._started and (identity or model or candidates or fields.peek("promptFeedback")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=NAME))
        self._usage = parse_usage(fields.take("usageMetadata"), "usageMetadata") or self._usage
        for path, item in candidates:
            self._candidate(ProtoFields(item, path), events)
        feedback = fields.peek("promptFeedback")
        reason = ProtoFields(feedback).peek("blockReason") if isinstance(feedback, dict) else None
        self._blocked = self._blocked or bool(reason)
        self._extra |= known_of(fields.rest())

    @property
    def ending(self) -> bool:
        return self._finish is not None or self._blocked

    def end(self, events: list[Event]) -> None:
        """Append the last events of the answer to `events`.

        Raise `UpstreamError` if the finish reason means a failure, or if no finish reason was received.
        """
        if self._finish is None and not self._blocked:
            raise UpstreamTruncated("the provider's answer ended without a finish reason")
        self._parts.close(events)
        reason = "SAFETY" if self._finish is None else self._finish
        stop, kept = parse_finish(reason, self._words, calls=self._calls)
        beside = {**self._beside, **kept}
        extra = {**self._extra, "candidates": [beside]} if beside else self._extra
        events.append(ResponseEnd(stop_reason=stop, usage=self._usage, extra=extra or None))

    def _candidate(self, candidate: ProtoFields, events: list[Event]) -> None:
        if candidate.integer("index") or self._finish is not None:
            return
        content = candidate.object("content")
        for path, item in content.each("parts") if content is not None else ():
            self._part(parse_part(item, path), item, events)
        self._finish = candidate.take("finishReason") or None
        self._words = candidate.peek("finishMessage")
        if self._finish is not None:
            self._parts.close(events)
        for name, value in (candidate.rest() or {}).items():
            if name == _LOGPROBS:
                gather(self._beside, {name: value})
            elif value is not None:
                self._beside[name] = value

    def _part(self, part: object, raw: Json, events: list[Event]) -> None:
        match part:
            case Text(text=text, extra=None):
                self._parts.text(Text(""), text, events)
            case Reasoning(extra=None) if not part.blobs or isinstance(self._parts.open, Reasoning):
                self._parts.text(Reasoning(), part.text, events)
                for blob in part.blobs:
                    self._parts.blob(Reasoning(), blob, events)
                if part.blobs:
                    self._parts.close(events)
            case Text() | Reasoning() | ToolCall():
                self._alone(part, events)
            case _:
                self._alone(Opaque(NAME, raw), events)

    def _alone(self, part: ResponsePart, events: list[Event]) -> None:
        self._calls = self._calls or isinstance(part, ToolCall)
        if isinstance(part, Reasoning):  # the signature came with this part, and belongs to it
            self._parts.close(events)
            index = self._parts.new_index()
            start = PartStart(index, msgspec.structs.replace(part, text=""))
            events += [start, *([PartDelta(index, part.text)] if part.text else ()), PartEnd(index)]
        else:
            self._parts.whole(part, events)


_PARSED: dict[str, StopReason] = {
    "STOP": "end",
    "FUNCTION_CALL": "tool_use",  # aimock
    "MAX_TOKENS": "max_tokens",
    "SAFETY": "refused",
    "RECITATION": "refused",
    "LANGUAGE": "refused",
    "BLOCKLIST": "refused",
    "PROHIBITED_CONTENT": "refused",
    "SPII": "refused",
    "IMAGE_SAFETY": "refused",
    "IMAGE_PROHIBITED_CONTENT": "refused",
    "IMAGE_RECITATION": "refused",
    "ESCALATION": "refused",
    "MODEL_ARMOR": "refused",
    "PUP_LIMITED_DISABLED": "refused",
    "CONTINUATION": "paused",
}
_RENDERED: dict[StopReason, str] = {
    "end": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "max_tokens": "MAX_TOKENS",
    "context_full": "MAX_TOKENS",
    "refused": "SAFETY",
    "paused": "CONTINUATION",
}


def parse_finish(reason: Json, words: Json, *, calls: bool) -> tuple[StopReason, dict[str, Json]]:
    """Convert a `finishReason` into a `StopReason`.

    The returned dict is part of the response's `extra`. The dict contains `reason` if `render_finish` would write
    another word for the `StopReason`.

    `reason` and `words` are the values of `finishReason` and `finishMessage`. Raise `UpstreamError` if the reason is
    unknown or missing, or means a failure (`MALFORMED_FUNCTION_CALL`, …).
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        more = f": {words}" if isinstance(words, str) and words else ""
        raise UpstreamError(f"the provider ended without an answer; its finish reason is {reason!r}{more}")
    return settled_stop(stop, calls=calls), {} if _RENDERED[stop] == reason else {"finishReason": reason}


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]


_TOOLS = "toolUsePromptTokenCount"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Convert `usageMetadata` into a `Usage`; return None if it is missing, or has no token count."""
    if not value:
        return None
    fields = ProtoFields(value, path)
    prompt, candidates = fields.count("promptTokenCount"), fields.count("candidatesTokenCount")
    thoughts, tools = fields.count("thoughtsTokenCount"), fields.count(_TOOLS)
    cached, total = fields.count("cachedContentTokenCount"), fields.count("totalTokenCount")
    if prompt is None and candidates is None and total is None:
        return None
    output = (candidates or 0) + (thoughts or 0)
    if prompt is None:
        prompt = max(0, (total or 0) - output - (tools or 0))
    elif candidates is None and total is not None:
        output = max(thoughts or 0, total - prompt - (tools or 0))
    if tools is not None:
        fields.keep(_TOOLS, tools)
    return Usage(
        input_tokens=prompt + (tools or 0),
        output_tokens=output,
        cached_tokens=cached,
        reasoning_tokens=thoughts,
        extra=fields.rest(),
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    """Convert a `Usage` into `usageMetadata`."""
    extra = (usage.extra or {}) if same_dialect else {}
    tools = extra.get(_TOOLS)
    added = tools if isinstance(tools, int) else 0
    document: dict[str, Json] = {
        "promptTokenCount": max(0, usage.input_tokens - added),
        "candidatesTokenCount": max(0, usage.output_tokens - (usage.reasoning_tokens or 0)),
    }
    if usage.cached_tokens is not None:
        document["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        document["thoughtsTokenCount"] = usage.reasoning_tokens
    document["totalTokenCount"] = usage.input_tokens + usage.output_tokens
    return merged(document, extra)


_BY_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_BY_NAME = {name: status for status, name in reversed(_BY_STATUS.items())} | {"FAILED_PRECONDITION": 400}
_NAME = re.compile(r"[A-Z]+(_[A-Z]+)*")
_TYPES = "type.googleapis.com/google.rpc."
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")
_TOO_MANY = "exceeds the maximum number of tokens allowed"
_NEVER = re.compile(r"\blimit: 0\b")  # a quota of zero: this account cannot use the model


def render_error(failure: Failure) -> Json:
    """Convert a failure into the JSON body of an error."""
    message, code = failure.message, failure.code or ""
    if is_overflow_failure(failure):  # Google's own words, which pi, Claude Code and litellm recognise, too
        message = overflow_words(
            message,
            known=_TOO_MANY,
            counted=f"The input token count ({{tokens}}) {_TOO_MANY} ({{most}}).",
            uncounted=f"The input token count {_TOO_MANY}",
        )
    otherwise = "INTERNAL" if failure.status >= 500 else "INVALID_ARGUMENT"
    name = code if _NAME.fullmatch(code) else _BY_STATUS.get(failure.status, otherwise)
    details: list[Json] = []
    if failure.retry_after is not None:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{failure.retry_after:g}s"})
    if failure.param is not None:
        violation = {"field": failure.param, "description": failure.message}
        details.append({"@type": f"{_TYPES}BadRequest", "fieldViolations": [violation]})
    return {"error": {"code": failure.status, "message": message, "status": name, "details": details}}


def parse_error(status: int, document: Json) -> Failure:
    """Convert a provider's error document, which may have any form, into a `Failure`.

    If `status` is below 400 (an error came in place of an answer), the failure has the status that the error contains.
    """
    error = find_error(document) or document
    message = error_text(error, document, status)
    if is_overflow(message):
        return Failure(status=400, message=message, code=OVERFLOW)
    fields = error if isinstance(error, dict) else {}
    code = fields.get("status")
    code = code if isinstance(code, str) else None
    own_status = status_of(fields.get("code"), _BY_NAME.get(code or "", 502))
    details = fields.get("details")
    delays = (
        [each.get("retryDelay") for each in details if isinstance(each, dict)]
        if isinstance(details, list)
        else []
    )
    delay = next(
        (found for each in delays if isinstance(each, str) and (found := _SECONDS.fullmatch(each))), None
    )
    return Failure(
        status=status_of(status, own_status),
        message=message,
        code=code,
        retry_after=float(delay[1]) if delay else None,
        should_retry=False if _NEVER.search(message) else None,
    )


def find_error(document: Json) -> Json:
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    return document.get("error") or None if isinstance(document, dict) else None
