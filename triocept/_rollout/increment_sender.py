"""Send an event for each piece of one exchange's answer. API keys are removed from these events.

Rules:

1. The event of a piece is sent when the agent's connection gets the piece. The events of the last increments, and of
   tool calls that were held back, are sent after the turn is recorded, just before the event `TurnSettled`. If the
   answer failed, these events are not sent.
2. With a `Redaction`, each part has one event, sent when the part ends, because a pattern can match across increments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from .._canonical.content import Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.events import Event, PartDelta, PartEnd, PartStart
from .._canonical.response import ResponsePart
from .._trace.redaction import Redaction
from .._trace.rollout_events import IncrementKind
from .._util.secrets import MARK, KeylessPieces, cleaned_json, without_keys
from .answer import Entry, RawPiece, Relayed

_KINDS: dict[type[ResponsePart], IncrementKind] = {
    Text: "text",
    Reasoning: "reasoning",
    RefusalText: "refusal",
    ToolCall: "tool_call",
    Opaque: "other",
}


@final
class IncrementSender:
    """Sends an event for each piece of one answer.

    Args:
        send: function that sends an `IncrementSent` event with the fields that it gets as keyword arguments.
        redaction: the redaction of the rollout.
    """

    last: Entry | None = None
    """The last increment. The event of this increment is sent when the turn is recorded."""

    def __init__(self, send: Callable[..., None], redaction: Redaction | None) -> None:
        self._send_event = send
        self._redaction = redaction
        self._count = 0
        self._kinds: dict[int, IncrementKind] = {}
        self._texts: dict[int, KeylessPieces] = {}
        """Texts of the parts that have not ended, by the part's index. Used only without a redaction."""
        self._whole: dict[int, list[str]] = {}
        """Pieces of text of the parts that have not ended, by the part's index. Used only with a redaction."""

    def send(self, entry: Entry) -> None:
        """Send the events for `entry`, one increment of the answer."""
        if isinstance(entry, Relayed):
            for event in entry.events:
                self._add(event)
        elif isinstance(entry, RawPiece):
            self._piece(0, "raw")
        else:
            self._add(entry)

    def end(self, *, answered: bool) -> None:
        if self.last is not None and answered:
            self.send(self.last)
        for part in [*self._kinds]:
            self._end_part(part)

    def _add(self, event: Event) -> None:
        match event:
            case PartStart(index=index, part=part):
                self._kinds[index] = kind = _KINDS[type(part)]
                if isinstance(part, ToolCall):
                    self._piece(index, kind, call=without_keys(part.id), tool=without_keys(part.name))
                elif isinstance(part, Opaque):
                    self._piece(index, kind)
                text = part.arguments if isinstance(part, ToolCall) else getattr(part, "text", "")
                self._add_text(index, text)
            case PartDelta(index=index, text=text):
                self._add_text(index, text)
            case PartEnd(index=index):
                self._end_part(index)

    def _add_text(self, part: int, text: str) -> None:
        if text and self._redaction is not None:
            self._whole.setdefault(part, []).append(text)
        elif text:
            self._text(part, self._texts.setdefault(part, KeylessPieces()).take(text))

    def _end_part(self, part: int) -> None:
        if (pieces := self._texts.pop(part, None)) is not None:
            self._text(part, pieces.end())
        if texts := self._whole.pop(part, None):
            self._text(part, redacted("".join(texts), self._redaction, json=self._kinds[part] == "tool_call"))

    def _text(self, part: int, text: str) -> None:
        if text:
            self._piece(part, self._kinds[part], text=text)

    def _piece(
        self, part: int, kind: IncrementKind, *, text: str = "", call: str = "", tool: str = ""
    ) -> None:
        index, self._count = self._count, self._count + 1
        self._send_event(index=index, kind=kind, part=part, text=text, call=call, tool=tool)


def redacted(text: str, redaction: Redaction | None, *, json: bool = False) -> str:
    """Remove API keys from `text`, apply `redaction` to it, and return the result.

    `json` is True if the text is the JSON of a call's arguments.
    """

    def clean(text: str) -> str:
        text = without_keys(text)
        return text if redaction is None else redaction.text(text)

    try:
        return cleaned_json(text, clean) if json else clean(text)
    except Exception:  # an error of the program's function is raised when the turn is recorded
        return MARK
