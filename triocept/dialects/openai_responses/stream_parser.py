"""Parser of streamed answers of Responses.

Rules:

1. The `type` in an event's data determines its kind; without it, the event's name does. Unknown events are skipped,
   and so are sequence numbers, which some servers leave out.
2. Items may overlap, their indexes may be missing, and an item may come whole in one event (see `stream_parts`).
3. `completed` and `incomplete` are the end. `failed` and `error` are the provider's failure. An end of the bytes
   before any of them is a truncation.
4. Further fields of the response are taken from the terminal event.
"""

from __future__ import annotations

from collections.abc import Callable

from ..._canonical.content import Json, Reasoning, RefusalText, Text
from ..._canonical.events import Event, ResponseEnd, ResponseStart
from ..._canonical.response import ResponsePart
from ..._util.sse import SSE, SSEDecoder, events_pattern
from ...errors import UpstreamTruncated
from .._documents import Fields, decode_json, hides_letters, types_come_first
from .._failures import error_of
from ..streams import StreamParser
from .ending import parse_finish, parse_usage
from .error import find_error, parse_error
from .names import NAME
from .response import answer_extra
from .stream_parts import Parts

_PREFIX = "response."
# The kind of text -> the part as it begins, and the name of its position in the item.
_TEXTS: dict[str, tuple[ResponsePart, str]] = {
    "output_text": (Text(""), "content_index"),
    "refusal": (RefusalText(""), "content_index"),
    "reasoning_summary_text": (Reasoning(), "summary_index"),
    "reasoning_text": (Reasoning(), "content_index"),
}
_CALLS = ("function_call_arguments.delta", "custom_tool_call_input.delta")
_CONTENT = events_pattern(rb'\{"type": ?"response\.[a-z_]+\.delta",', rb"response\.[a-z_]+\.delta")


class Parser(StreamParser):
    """A parser of one streamed answer."""

    def __init__(self) -> None:
        self._sse = SSEDecoder()
        self._parts = Parts()
        self._started = False
        self._done = False

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done and sse.data.strip() != b"[DONE]":
                self._take(sse, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CONTENT.fullmatch(data) is not None
        return whole and types_come_first(data) and b'"error"' not in data and not hides_letters(data)

    @property
    def ending(self) -> bool:
        return self._done

    def close(self) -> list[Event]:
        if not self._done:
            raise UpstreamTruncated("the provider's stream ended without response.completed")
        return []

    def _take(self, sse: SSE, events: list[Event]) -> None:
        document = decode_json(sse.data)
        fields = Fields(document)
        kind = fields.text("type") or sse.event
        if kind in ("error", "response.failed") or find_error(document) is not None:
            document = {**document, "type": kind}
            raise error_of(parse_error(0, document), body=sse.data.decode("utf-8", "replace"))
        name = kind.removeprefix(_PREFIX)
        if name in ("created", "queued", "in_progress"):
            self._start(fields.object("response"), events)
        elif name in ("completed", "incomplete", "cancelled", "done"):
            self._end(name, fields.need_object("response"), events)
        elif name != kind:
            self._item(name, fields, events)

    def _item(self, name: str, fields: Fields, events: list[Event]) -> None:
        known: dict[str, Callable[[Fields, list[Event]], None]] = {
            "output_item.added": self._parts.added,
            "output_item.done": self._parts.done,
            "content_part.added": self._parts.part_added,
            "output_text.annotation.added": self._parts.annotated,
        }
        subject, _, verb = name.rpartition(".")
        if subject in _TEXTS and verb == "delta":
            self._parts.delta(fields, *_TEXTS[subject], events)
        elif name in _CALLS:
            self._parts.call_delta(fields, events)
        elif subject in _TEXTS and verb == "done":
            self._parts.text_done(fields, *_TEXTS[subject], events)
        elif name in known:
            self._start(None, events)
            known[name](fields, events)

    def _start(self, response: Fields | None, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        response = response or Fields({})
        identity, model = response.text("id") or "", response.text("model") or ""
        events.append(ResponseStart(id=identity, model=model, dialect=NAME))

    def _end(self, name: str, response: Fields, events: list[Event]) -> None:
        status = response.text("status") or name
        self._start(Fields({known: response.peek(known) for known in ("id", "model")}), events)
        if not self._parts.any:
            self._parts.output(response, events)
        self._parts.close(events)
        stop, kept = parse_finish(
            status,
            response.object("incomplete_details"),
            calls=self._parts.calls,
            refusal=self._parts.refusal,
        )
        usage = parse_usage(response.take("usage"), "response.usage")
        for known in ("id", "model"):
            response.take(known)
        extra: dict[str, Json] = {**answer_extra(response), **kept}
        self._done = True
        events.append(ResponseEnd(stop_reason=stop, usage=usage, extra=extra or None))
