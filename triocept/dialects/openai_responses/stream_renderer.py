"""Renderer of streamed answers of Responses: events without a frame (for a websocket), and server-sent events.

Rules:

1. A stream is `created` and `in_progress`; items; one of `completed`, `incomplete` and `failed` (or `error` in its
   place). The response's id and `created_at` are equal in all of them.
2. Parts may overlap: `output_index` identifies their items.
3. An item is done when the next event shows that no part continues it. So a call that a token limit or a failure cuts
   is never done: Codex and opencode run every call that is done, whatever the end of the turn.
4. The terminal event holds the whole output, and the usage with all its numbers, estimated if unknown.
5. A server-sent event has its name, and the `type` in its data.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.content import Reasoning, RefusalText, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import estimate_streamed
from .._clock import answer_time
from .._documents import is_same_dialect, merged
from .._failures import Failure
from ..streams import StreamRenderer
from .items import goes_on
from .response import ending, envelope, is_cut, render_event_error, render_usage
from .tools import NAME
from .writers import Counter, Item, ItemWriter, WireEvent, document_of, writer_of

__all__ = ["Documents", "Renderer", "WireEvent"]


class Documents:
    """A renderer of one streamed answer to `request`, event by event."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._counter = Counter()
        self._own = True
        self._envelope: dict[str, object] = {}
        self._start_usage: Usage | None = None
        self._items: list[Item] = []
        self._writers: dict[int, ItemWriter] = {}
        self._waiting: list[Item] = []  # complete, but a later part may continue them
        self._calls = False
        self._refusal = False
        self._characters = 0

    @property
    def response_id(self) -> str:
        """The id that the agent got; empty before the first event."""
        return str(self._envelope.get("id", ""))

    def render(self, event: Event) -> list[WireEvent]:
        """Return the events that `event` adds: perhaps none yet."""
        match event:
            case PartDelta(index=index, text=text):
                writer = self._writers.get(index)
                if writer is None:
                    return []
                self._characters += len(text)
                return [*self._settle(), *writer.text(text)] if self._waiting else writer.text(text)
            case PartStart(index=index, part=part):
                return self._part(index, part)
            case PartBlob(index=index, blob=blob):
                writer = self._writers.get(index)
                return [*self._settle(), *writer.blob(blob)] if writer else []
            case PartEnd(index=index):
                return self._part_end(index)
            case ResponseStart():
                return self._start(event)
            case ResponseEnd():
                return self._end(event)

    def fail(self, failure: Failure) -> list[WireEvent]:
        """Return the `error` event. Items that wait for their end do not get one."""
        document = render_event_error(failure, self._counter.next)
        return [self._counter.event("error", {k: v for k, v in document.items() if k != "sequence_number"})]

    def keepalive(self, response_id: str = "") -> list[WireEvent]:
        """Return a no-op, after the `created` event if no event came before.

        Args:
            response_id: the id in the `created` event.
        """
        begun = [] if self._envelope else self._open(response_id, "")
        return [*begun, self._counter.event("keepalive", {})]

    def _start(self, event: ResponseStart) -> list[WireEvent]:
        self._own = is_same_dialect(event.dialect, NAME)
        self._start_usage = event.usage
        if self._envelope:  # a keepalive came first, and its id stays
            return []
        if self._own and event.extra:
            return self._open(event.id, event.model, event.extra)
        return self._open(event.id, event.model)

    def _open(self, identity: str, model: str, extra: dict[str, object] | None = None) -> list[WireEvent]:
        document = envelope(self._request, identity, model, int(answer_time()))
        self._envelope = merged(document, extra) if extra else document
        self._counter.answer = self.response_id
        return [
            self._counter.event(kind, {"response": self._envelope})
            for kind in ("response.created", "response.in_progress")
        ]

    def _part(self, index: int, part: ResponsePart) -> list[WireEvent]:
        last = self._items[-1] if self._items else None
        wanted = "reasoning" if isinstance(part, Reasoning) else "message"
        joins = (
            last is not None
            and goes_on(part, same_dialect=self._own)
            and last.document.get("type") == wanted
            and not last.done
        )
        events = self._settle(last if joins else None)
        if joins and last is not None:
            item = last
        else:
            item = Item(self._counter, len(self._items), document_of(part, same_dialect=self._own))
        writer = writer_of(part, item, self._request, same_dialect=self._own)
        if writer is None:
            return events
        if not joins:
            self._items.append(item)
        self._refusal = self._refusal or isinstance(part, RefusalText)
        if isinstance(part, ToolCall):
            self._calls = True
            self._characters += len(part.name)
        item.open += 1
        item.writer = self._writers[index] = writer
        return [*events, *writer.start(first=not joins)]

    def _part_end(self, index: int) -> list[WireEvent]:
        writer = self._writers.pop(index, None)
        if writer is None:
            return []
        events = [*self._settle(), *writer.end()]
        writer.item.open -= 1
        if not writer.item.open:
            self._waiting.append(writer.item)
        return events

    def _settle(self, but: Item | None = None, *, cut: bool = False) -> list[WireEvent]:
        """Return the events that end the waiting items, except `but`, which continues."""
        events = [event for item in self._waiting if item is not but for event in item.end(cut=cut)]
        self._waiting.clear()
        return events

    def _end(self, event: ResponseEnd) -> list[WireEvent]:
        begun = [] if self._envelope else self._open("", "")
        left = [each for index in sorted(self._writers) for each in self._part_end(index)]
        done = self._settle(cut=is_cut(event.stop_reason))
        usage = event.usage or self._start_usage or estimate_streamed(self._request, self._characters)
        document = {
            **self._envelope,
            "output": [item.document for item in self._items],
            "usage": render_usage(usage, same_dialect=self._own),
        }
        document = ending(
            document,
            self._request,
            event.stop_reason,
            calls=self._calls,
            refusal=self._refusal,
            extra=event.extra if self._own else None,
        )
        kind = f"response.{document['status']}"
        return [*begun, *left, *done, self._counter.event(kind, {"response": document})]


class Renderer(StreamRenderer):
    """A renderer of one streamed answer to `request`, as server-sent events."""

    def __init__(self, request: Request) -> None:
        self._documents = Documents(request)

    @property
    def response_id(self) -> str:
        """The id that the agent got; empty before the first event."""
        return self._documents.response_id

    def render(self, event: Event) -> bytes:
        return _framed(self._documents.render(event))

    def fail(self, failure: Failure) -> bytes:
        return _framed(self._documents.fail(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        return _framed(self._documents.keepalive(response_id))


def _framed(events: Iterable[WireEvent]) -> bytes:
    return b"".join([b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.data) for event in events])
