"""Between a whole response and its increments.

`assemble(events_of(response)) == response` for every response whose calls have whole arguments: streaming is the
only path, and a whole response is its fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ..errors import DialectError
from .content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from .response import Response, ResponsePart

__all__ = ["Fold", "assemble", "events_of", "part_events"]


class _OpenPart:
    """A part that is still being written."""

    def __init__(self, part: ResponsePart) -> None:
        self.part = part
        self.texts: list[str] = []
        self.blobs: list[Blob] = []

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
                return msgspec.structs.replace(part, text=part.text + more, extra=self._annotated(part))
            case _:
                return msgspec.structs.replace(part, text=part.text + more) if more else part

    def _annotated(self, part: Text) -> dict[str, Json]:
        extra = dict(part.extra or {})
        lists: dict[str, list[Json]] = {}
        for blob in self.blobs:
            if blob.kind not in lists:
                lists[blob.kind] = list(extra.get(blob.kind) or ())
            lists[blob.kind].append(msgspec.json.decode(blob.data))
        return extra | lists


class Fold:
    """Takes events one by one; `response()` is what they amount to so far.

    Holds what came, and no more: its memory is that of the response.
    """

    def __init__(self) -> None:
        self._start = ResponseStart()
        self._end: ResponseEnd | None = None
        self._parts: dict[int, _OpenPart] = {}

    @property
    def ended(self) -> bool:
        """Whether the terminal event has come."""
        return self._end is not None

    def add(self, event: Event) -> None:
        """Take one event.

        Raises:
            DialectError: it does not follow the grammar of `events`.
        """
        if self._end is not None:
            raise DialectError(f"{type(event).__name__} after the terminal event")
        match event:
            case ResponseStart():
                self._start = event
            case PartStart(index=index, part=part):
                if index in self._parts:
                    raise DialectError(f"part {index} starts twice")
                self._parts[index] = _OpenPart(part)
            case PartDelta(index=index, text=text):
                self._at(index).texts.append(text)
            case PartBlob(index=index, blob=blob):
                self._at(index).blobs.append(blob)
            case PartEnd(index=index):
                self._at(index)
            case ResponseEnd():
                self._end = event

    def response(self) -> Response:
        """The response so far; without the terminal event, one without stop reason."""
        end = self._end or ResponseEnd()
        extra = {**(self._start.extra or {}), **(end.extra or {})}
        return Response(
            tuple(self._parts[index].whole() for index in sorted(self._parts)),
            stop_reason=end.stop_reason,
            stop_sequence=end.stop_sequence,
            usage=end.usage or self._start.usage,
            model=self._start.model,
            id=self._start.id,
            extra=extra or None,
            dialect=self._start.dialect,
        )

    def _at(self, index: int) -> _OpenPart:
        try:
            return self._parts[index]
        except KeyError:
            raise DialectError(f"part {index} goes on, but it never started") from None


def assemble(events: Iterable[Event]) -> Response:
    """The whole response that these events amount to.

    Raises:
        DialectError: they break the grammar, or the terminal event is missing.
    """
    fold = Fold()
    for event in events:
        fold.add(event)
    if not fold.ended:
        raise DialectError("the stream ended before its terminal event")
    return fold.response()


def events_of(response: Response) -> Iterator[Event]:
    """The response as a stream: each part in one delta."""
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
    """One whole part, numbered `index`, as a stream."""
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
