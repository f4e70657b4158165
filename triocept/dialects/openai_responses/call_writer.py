"""A call of a streamed answer, as the events of its item.

Rules:

1. One that must change its kind (the agent takes free text, or JSON) is held back until it is whole.
2. Its last events are those of its item: an agent runs what is done, so whether it is done is decided later.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import ToolCall
from .._custom import FittedCall
from .calls import render_call
from .namespaces import Names
from .response import is_whole
from .stream_items import Item, WireEvent, Writer

__all__ = ["CallWriter"]


class CallWriter(Writer):
    """Writes one call."""

    def __init__(
        self, item: Item, call: ToolCall, customs: frozenset[str], names: Names, *, same_dialect: bool
    ) -> None:
        super().__init__(item, same_dialect=same_dialect)
        self._fitted = FittedCall(call, customs)
        self._names = names

    def start(self, *, first: bool) -> list[WireEvent]:
        return [] if self._fitted.held else [*self._begin(), *self.text(self._call.arguments)]

    def text(self, text: str) -> list[WireEvent]:
        return [] if self._fitted.hold(text) else super().text(text)

    def end(self) -> list[WireEvent]:
        events: list[WireEvent] = []
        if self._fitted.held:
            call = self._fitted.release()
            events = [*self._begin(), *self.text(call.arguments)]
        if not self.texts and self._call.kind == "json":
            events += self.text("{}")
        self.item.document[self._field] = "".join(self.texts)
        return events

    def finish(self) -> list[WireEvent]:
        done = self.kind.removesuffix("delta") + "done"
        fields = {self._field: self.item.document[self._field]}
        if self._field == "arguments":
            fields["name"] = self.item.document["name"]
        return [self.item.event(done, **fields)]

    def is_whole(self) -> bool:
        return is_whole(msgspec.structs.replace(self._call, arguments="".join(self.texts)))

    @property
    def _call(self) -> ToolCall:
        return self._fitted.call

    @property
    def _field(self) -> str:
        return "input" if self._call.kind == "text" else "arguments"

    def _begin(self) -> list[WireEvent]:
        text = self._call.kind == "text"
        self.kind = f"response.{'custom_tool_call_input' if text else 'function_call_arguments'}.delta"
        empty = msgspec.structs.replace(self._call, arguments="")
        self.item.document = {
            **render_call(empty, self._names, same_dialect=self._own, fresh=True),
            self._field: "",
        }
        events = self.item.begin({self._field: ""})
        self._frame = self.item.delta_frame(self.kind)
        return events
