"""Tool calls of an answer that may still fail, held back.

Agents run what is whole as soon as they see it. opencode runs a call of chat completions when its arguments are whole
JSON, Codex one whose item is done, and Claude Code keeps a block that has ended and asks for the rest; if the stream
then breaks, they ask again, and the command runs twice (opencode 1.18.33, Codex 0.169.0, Claude Code 2.1.197).

Rules:

1. The end of a call, and the last piece of its arguments, wait for the end of the answer.
2. Everything else goes on at once; what is not whitespace makes a piece.
"""

from __future__ import annotations

from .content import ToolCall
from .events import Event, PartDelta, PartEnd, PartStart, ResponseEnd

__all__ = ["HeldCalls"]


class HeldCalls:
    """Holds back, in one answer's events, what would make its calls whole."""

    def __init__(self) -> None:
        self._last: dict[int, str] = {}  # the last piece of each call
        self._ended: list[int] = []

    def take(self, event: Event) -> tuple[Event, ...]:
        """What of the answer may go on, now that `event` has come."""
        match event:
            case PartStart(index=index, part=ToolCall() as call):
                self._last[index] = call.arguments
                return (PartStart(index, _begun(call)),)
            case PartDelta(index=index, text=text) if index in self._last:
                before = self._last[index]
                if not text.strip() or not before:
                    self._last[index] = before + text
                    return ()
                self._last[index] = text
                return (PartDelta(index, before),)
            case PartEnd(index=index) if index in self._last:
                self._ended.append(index)
                return ()
            case ResponseEnd():
                return (*self._rest(), event)
            case _:
                return (event,)

    def _rest(self) -> list[Event]:
        """All that was held back, in the order of the calls' ends."""
        rest: list[Event] = []
        for index in [*self._ended, *(index for index in self._last if index not in self._ended)]:
            if self._last[index]:
                rest.append(PartDelta(index, self._last[index]))
            if index in self._ended:
                rest.append(PartEnd(index))
        return rest


def _begun(call: ToolCall) -> ToolCall:
    return ToolCall(call.name, "", call.id, call.kind, call.extra) if call.arguments else call
