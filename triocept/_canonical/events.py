"""The events of a streamed response, their conversion to a whole response, and two buffers that delay events.

Grammar::

    response := ResponseStart part* ResponseEnd
    part     := PartStart(i) (PartDelta(i) | PartBlob(i))* PartEnd(i)

Rules:

1. `index` numbers the parts from 0 in the order of their starts. Parts may overlap (parallel tool calls of chat
   completions do). For a wire format without overlapping parts, the renderer delays increments of later parts.
2. A delta is appended to the part's text, or to the arguments of a call.
3. `ResponseEnd` is the only terminal event. A stream without a `ResponseEnd` is truncated, and never a success.
4. For every response whose calls have complete arguments, `assemble(events_of(response)) == response`. Internally,
   every response is a stream of events; `assemble` converts a stream of events to a whole response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from .._util.unicode import mended_text
from ..errors import DialectError
from .agent_calls import call_in
from .content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .response import Response, ResponsePart, StopReason, Usage


class ResponseStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Event: an answer starts."""

    id: str = ""
    model: str = ""
    usage: Usage | None = None
    """The token counts that are known at the start of the answer, usually only the input tokens."""
    extra: dict[str, Json] | None = None
    dialect: str = ""
    """The dialect in which the answer was received; see `Response.dialect`."""


class PartStart(msgspec.Struct, frozen=True, gc=False):
    """Event: a part of the answer starts."""

    index: int
    part: ResponsePart
    """The part at its start, before its first delta: for example an empty text, or a call with name, id and empty
    arguments."""


class PartDelta(msgspec.Struct, frozen=True, gc=False):
    """Event: the next piece of a part's text, or of a call's arguments."""

    index: int
    text: str


class PartBlob(msgspec.Struct, frozen=True, gc=False):
    """An opaque blob of a reasoning part, or an annotation (such as a citation) of a text part.

    The `data` of an annotation is JSON. This JSON value is appended to the list `extra[kind]` of the text part, where
    `kind` is the kind of the blob.
    """

    index: int
    blob: Blob


class PartEnd(msgspec.Struct, frozen=True, gc=False):
    """Event: a part of the answer is complete."""

    index: int


class ResponseEnd(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The terminal event: the response is complete."""

    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    extra: dict[str, Json] | None = None


Event: TypeAlias = ResponseStart | PartStart | PartDelta | PartBlob | PartEnd | ResponseEnd


class _OpenPart(msgspec.Struct, gc=False):
    part: ResponsePart
    texts: list[str] = []
    blobs: list[Blob] = []
    ended: bool = False

    def whole(self) -> ResponsePart:
        part, more = self.part, "".join(self.texts)
        match part:
            case Opaque():
                return part
            case ToolCall():
                return msgspec.structs.replace(part, arguments=part.arguments + more) if more else part
            case Reasoning():
                blobs = part.blobs + tuple(self.blobs)
                return msgspec.structs.replace(part, text=part.text + more, blobs=blobs)
            case Text() if self.blobs:
                extra = dict(part.extra or {})
                lists: dict[str, list[Json]] = {}
                for blob in self.blobs:
                    if blob.kind not in lists:
                        lists[blob.kind] = list(extra.get(blob.kind) or ())
                    lists[blob.kind].append(msgspec.json.decode(blob.data))
                return msgspec.structs.replace(part, text=part.text + more, extra=extra | lists)
            case _:
                return msgspec.structs.replace(part, text=part.text + more) if more else part


class Fold(msgspec.Struct):
    """Builder of a response from its events: call `add(event)` for each event, then `response()`.

    The builder stores only the content of the events. So it takes no more memory than the response itself.
    """

    _start: ResponseStart = ResponseStart()
    _end: ResponseEnd | None = None
    _parts: dict[int, _OpenPart] = {}

    @property
    def ended(self) -> bool:
        return self._end is not None

    def add(self, event: Event) -> None:
        """Add the content of one event to the response.

        Raises:
            DialectError: the event breaks the grammar.
        """
        if self._end is not None:
            raise DialectError(f"{type(event).__name__} came after ResponseEnd, which must be the last event")
        try:
            match event:
                case PartDelta(index=index, text=text):
                    self._parts[index].texts.append(text)
                case PartBlob(index=index, blob=blob):
                    self._parts[index].blobs.append(blob)
                case PartEnd(index=index):
                    self._parts[index].ended = True
                case PartStart(index=index, part=part):
                    if index in self._parts:
                        raise DialectError(f"part {index} of the answer was started twice")
                    self._parts[index] = _OpenPart(part)
                case ResponseStart():
                    self._start = event
                case ResponseEnd():
                    self._end = event
        except KeyError as exc:
            raise _never_started(exc.args[0]) from None

    def check_open(self, index: int) -> None:
        """Raise a DialectError if no part with this index was started, or if the part has ended."""
        if (part := self._parts.get(index)) is None:
            raise _never_started(index)
        if part.ended:
            raise DialectError(f"an event belongs to part {index}, which has already ended")

    def response(self) -> Response:
        end = self._end or ResponseEnd()
        extra = {**(self._start.extra or {}), **(end.extra or {})}
        return Response(
            tuple([self._parts[index].whole() for index in sorted(self._parts)]),
            stop_reason=end.stop_reason,
            stop_sequence=end.stop_sequence,
            usage=end.usage or self._start.usage,
            model=self._start.model,
            id=self._start.id,
            extra=extra or None,
            dialect=self._start.dialect,
        )


def _never_started(index: object) -> DialectError:
    return DialectError(f"an event belongs to part {index}, which was never started")


def assemble(events: Iterable[Event]) -> Response:
    """Return the whole response that `events` describe.

    Raises:
        DialectError: the events break the grammar, or the terminal event is missing.
    """
    fold = Fold()
    for event in events:
        fold.add(event)
    if not fold.ended:
        raise DialectError("the stream ended without a ResponseEnd event")
    return fold.response()


def events_of(response: Response) -> Iterator[Event]:
    """Yield the events of a response, with one delta for each part."""
    yield ResponseStart(id=response.id, model=response.model, usage=response.usage, dialect=response.dialect)
    for index, part in enumerate(response.content):
        yield from part_events(index, part)
    yield ResponseEnd(
        stop_reason=response.stop_reason,
        stop_sequence=response.stop_sequence,
        usage=response.usage,
        extra=response.extra,
    )


def part_events(index: int, part: ResponsePart) -> Iterator[Event]:
    """Yield the events of one complete part, each with the index `index`."""
    match part:
        case Opaque():
            yield PartStart(index, part)
        case ToolCall(arguments=arguments):
            yield PartStart(index, msgspec.structs.replace(part, arguments=""))
            if arguments:
                yield PartDelta(index, arguments)
        case Reasoning(text=text, blobs=blobs):
            yield PartStart(index, msgspec.structs.replace(part, text="", blobs=()))
            if text:
                yield PartDelta(index, text)
            for blob in blobs:
                yield PartBlob(index, blob)
        case Text() | RefusalText():
            yield PartStart(index, msgspec.structs.replace(part, text=""))
            if part.text:
                yield PartDelta(index, part.text)
    yield PartEnd(index)


class Seams(dict[int, str]):
    """Buffer for one streamed answer: joins surrogate pairs split over two deltas, and replaces lone surrogates.

    This object is a dict. For each part whose last delta ended in a high surrogate, the dict maps the index of the part
    to that surrogate.
    """

    def take(self, event: Event) -> tuple[Event, ...]:
        """Process an event, and return the events that can be passed on now. The tuple may be empty."""
        match event:
            case PartDelta(index=index, text=text):
                text = self.pop(index, "") + text
                if ends_in_half(text):
                    self[index], text = text[-1], text[:-1]
                return (PartDelta(index, mended_text(text)),) if text else ()
            case PartEnd(index=index) if index in self:
                return (PartDelta(index, mended_text(self.pop(index))), event)
            case ResponseEnd() if self:
                rest = [PartDelta(index, mended_text(half)) for index, half in self.items()]
                self.clear()
                return (*rest, event)
            case _:
                return (event,)


def ends_in_half(text: str) -> bool:
    """Return True if `text` ends with the first half of a surrogate pair."""
    return "\ud800" <= text[-1:] <= "\udbff"


def begins_call(event: Event) -> bool:
    return type(event) is PartStart and call_in(event.part) is not None


class HeldCalls(list[Event]):
    """Buffer that keeps the tool calls of an answer until the answer is complete.

    The buffer keeps every event from the start of the first tool call to the end of the answer. Earlier events are sent
    immediately.

    The reason: agents run a call as soon as the call is complete. If the stream then breaks, the agent retries the
    request, and the command runs twice:

    * opencode 1.18.33 runs a call of chat completions when the call's arguments are complete JSON.
    * Codex 0.169.0 runs a call when the call's item is done.
    * Claude Code 2.1.197 keeps each content block that has ended, and requests only the missing part of the answer.

    Some agents keep an incomplete call in their history, and send the incomplete call with the next request.
    """

    @property
    def any(self) -> bool:
        """True if the buffer contains events. From then on, the buffer takes every further event."""
        return bool(self)

    def hold(self, event: Event) -> bool:
        """Put the event into the buffer if this event or an earlier event begins a call.

        Return True if the event is now in the buffer.
        """
        if not self and (type(event) is not PartStart or type(event.part) is Text or not begins_call(event)):
            return False
        self.append(event)
        return True

    def release(self) -> tuple[Event, ...]:
        """Remove all events from the buffer, and return them in order. Adjacent deltas of one part are joined."""
        released: list[Event] = []
        texts: list[str] = []
        for number, event in enumerate(self):
            if type(event) is not PartDelta:
                released.append(event)
                continue
            texts.append(event.text)
            after = self[number + 1] if number + 1 < len(self) else None
            if type(after) is not PartDelta or after.index != event.index:
                released.append(PartDelta(event.index, "".join(texts)))
                texts.clear()
        self.clear()
        return tuple(released)
