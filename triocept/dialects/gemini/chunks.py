"""The responses that make up one answer (a single one without a stream), as events.

Rules:

1. Plain text joins the text before it, across chunks, and a thought joins the thought before it. Any other part with
   further fields (a signature, …) stands alone.
2. A signature ends its thought.
3. A call comes whole in one part. Empty text without further fields is skipped.
4. Candidates, content and parts may be missing. A blocked prompt is a refusal.
5. The finish reason completes the content: of later chunks, only the usage and unknown fields count.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Json, Opaque, Reasoning, Text, ToolCall
from ..._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.response import ResponsePart, Usage
from ...errors import UpstreamTruncated
from .._documents import gather, known_of
from ..streams import EventBuilder
from .ending import parse_finish, parse_usage
from .fields import ProtoFields
from .names import NAME
from .parts import parse_part

_LOGPROBS = "logprobsResult"  # of each chunk's own tokens; other fields are repeated in every chunk


class Chunks:
    """A builder of events: it takes the responses of one answer, and appends events."""

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
        """Take one response."""
        fields = ProtoFields(document)
        candidates = fields.each("candidates")
        self._start(fields, bool(candidates), events)
        self._usage = parse_usage(fields.take("usageMetadata"), "usageMetadata") or self._usage
        for path, item in candidates:
            self._candidate(ProtoFields(item, path), events)
        feedback = fields.peek("promptFeedback")
        reason = ProtoFields(feedback).peek("blockReason") if isinstance(feedback, dict) else None
        self._blocked = self._blocked or bool(reason)
        self._extra |= known_of(fields.rest())

    @property
    def ending(self) -> bool:
        """True if the reason for the end of the answer has come."""
        return self._finish is not None or self._blocked

    def end(self, events: list[Event]) -> None:
        """Append the last events after the last response.

        Raises:
            UpstreamTruncated: the finish reason never came.
            UpstreamError: the finish reason means a failure.
        """
        if self._finish is None and not self._blocked:
            raise UpstreamTruncated("the provider's answer ended without a finish reason")
        self._parts.close(events)
        reason = "SAFETY" if self._finish is None else self._finish
        stop, kept = parse_finish(reason, self._words, calls=self._calls)
        beside = {**self._beside, **kept}
        extra = {**self._extra, "candidates": [beside]} if beside else self._extra
        events.append(ResponseEnd(stop_reason=stop, usage=self._usage, extra=extra or None))

    def _start(self, fields: ProtoFields, candidates: bool, events: list[Event]) -> None:
        identity, model = fields.text("responseId"), fields.text("modelVersion")
        if not self._started and (identity or model or candidates or fields.peek("promptFeedback")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=NAME))

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
            case Reasoning(extra=None) if self._goes_on(part):
                self._thought(part, events)
            case Text() | Reasoning() | ToolCall():
                self._alone(part, events)
            case _:
                self._alone(Opaque(NAME, raw), events)

    def _goes_on(self, part: Reasoning) -> bool:
        return not part.blobs or isinstance(self._parts.open, Reasoning)

    def _thought(self, part: Reasoning, events: list[Event]) -> None:
        self._parts.text(Reasoning(), part.text, events)
        if part.blobs:
            for blob in part.blobs:
                self._parts.blob(Reasoning(), blob, events)
            self._parts.close(events)

    def _alone(self, part: ResponsePart, events: list[Event]) -> None:
        self._calls = self._calls or isinstance(part, ToolCall)
        if isinstance(part, Reasoning):  # the signature came with this part, and belongs to it
            self._parts.close(events)
            index = self._parts.new_index()
            start = PartStart(index, msgspec.structs.replace(part, text=""))
            events += [start, *([PartDelta(index, part.text)] if part.text else ()), PartEnd(index)]
        else:
            self._parts.whole(part, events)
