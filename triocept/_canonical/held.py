"""Tool calls of an answer that may still fail, held back.

Agents run what is whole as soon as they see it. opencode runs a call of chat completions when its arguments are whole
JSON, Codex one whose item is done, and Claude Code keeps a block that has ended and asks for the rest; if the stream
then breaks, they ask again, and the command runs twice (opencode 1.18.33, Codex 0.169.0, Claude Code 2.1.197). What
was no more than begun stays in the history of some: the next call tells of it.

Rules:

1. From the first call's beginning on, everything waits for the end of the answer.
2. What comes before it is not touched.
"""

from __future__ import annotations

from .content import Opaque, ToolCall
from .events import Event, PartDelta, PartStart

__all__ = ["HeldCalls", "begins_call"]

_RUN_BY_AGENTS = frozenset(
    {"local_shell_call", "shell_call", "apply_patch_call", "computer_call", "tool_search_call"}
)
"""Items of Responses that a provider leaves to its client; all other opaque calls it runs itself."""


def begins_call(event: Event) -> bool:
    """Whether a call begins with it, which the agent will run."""
    if type(event) is not PartStart:
        return False
    part = event.part
    if type(part) is ToolCall:
        return True
    kind = part.raw.get("type") if type(part) is Opaque and isinstance(part.raw, dict) else None
    return isinstance(kind, str) and kind in _RUN_BY_AGENTS  # a provider may send anything


class HeldCalls:
    """What of one answer waits for its end."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def any(self) -> bool:
        """Whether something waits: then all that comes does."""
        return bool(self._events)

    def hold(self, event: Event) -> bool:
        """Keep `event`, if it is one to be held back; whether it was."""
        if not self._events and not begins_call(event):
            return False
        self._events.append(event)
        return True

    def release(self) -> tuple[Event, ...]:
        """All that was held back, in its order; neighbouring pieces of one text are one."""
        events, self._events = self._events, []
        released: list[Event] = []
        texts: list[str] = []
        for number, event in enumerate(events):
            if type(event) is not PartDelta:
                released.append(event)
                continue
            texts.append(event.text)
            after = events[number + 1] if number + 1 < len(events) else None
            if type(after) is not PartDelta or after.index != event.index:
                released.append(PartDelta(event.index, "".join(texts)))
                texts.clear()
        return tuple(released)
