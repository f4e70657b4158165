"""The documents that make up one answer (a single one without a stream), as events.

Rules:

1. Text joins the text before it, and thinking joins the thinking before it. A call comes whole.
2. The document with `done` is the last; it has the reason and the usage, and may have content.
3. Unknown fields of documents are gathered into the `extra` of `ResponseEnd`, in the form that a whole answer has.
"""

from __future__ import annotations

from ..._canonical.content import Json, Media, Reasoning, Text, ToolCall
from ..._canonical.events import Event, ResponseEnd, ResponseStart
from ...errors import UpstreamTruncated
from .._documents import Fields, gather, known_of
from ..streams import EventBuilder
from .ending import parse_finish, take_usage
from .messages import message_parts
from .names import NAME


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
            self._say(message, events)
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

    def _say(self, message: Fields, events: list[Event]) -> None:
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
