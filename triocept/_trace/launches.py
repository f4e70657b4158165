"""Search for the tool call that started a sub-agent: its task is at the beginning of the sub-agent's conversation.

The task is an argument of the call (`prompt` of Claude Code's Agent and of opencode's task, `message` of Codex's
spawn_agent). It is in a message of the user in the sub-agent's first call, alone or among others. Of several such calls
the call with the longest task is chosen; of equally long tasks the earliest call that has started no sub-agent yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from .._canonical.content import Text, ToolCall
from .._canonical.request import Request
from ..errors import DialectError
from .texts import texts_in

if TYPE_CHECKING:
    from .turn import Turn

_KEPT = 64
"""Maximum calls searched: sub-agents begin soon after the call that starts them."""
_LONG = 16
"""Minimum characters of a text that is unlikely to match by chance: a shorter text must equal a whole part."""


class Launch:
    """A tool call that may have started a sub-agent."""

    def __init__(self, turn: str, number: int, call: ToolCall) -> None:
        self.turn = turn
        """Id of the turn whose answer called the tool."""
        self.number = number
        """Index of the call in that answer."""
        self.used = False
        self._call = call

    @cached_property
    def tasks(self) -> list[str]:
        """The texts among the call's arguments, the longest first."""
        try:
            found = texts_in(self._call.parsed())
        except DialectError:
            found = iter((self._call.arguments,))
        return sorted({text.strip() for text in found} - {""}, key=len, reverse=True)


class Launches:
    """The latest tool calls."""

    def __init__(self) -> None:
        self._kept: deque[Launch] = deque(maxlen=_KEPT)

    def add(self, turn: Turn) -> None:
        """Add the tool calls of a turn."""
        if turn.response is not None:
            calls = enumerate(turn.response.tool_calls)
            self._kept.extend(Launch(turn.id, number, call) for number, call in calls)

    def of(self, request: Request) -> Launch | None:
        """Return the tool call that started the conversation of this first request, and mark it as used."""
        if not self._kept:
            return None
        parts = [
            part.text for each in request.messages if each.role == "user" for part in _texts(each.content)
        ]
        found: Launch | None = None
        longest = (0, False)
        for launch in self._kept:
            length = next((len(task) for task in launch.tasks if _is_told(task, parts)), 0)
            if length and (length, not launch.used) > longest:
                found, longest = launch, (length, not launch.used)
        if found is not None:
            found.used = True
        return found


def _is_told(task: str, parts: list[str]) -> bool:
    return any(task in part if len(task) >= _LONG else task == part.strip() for part in parts)


def _texts(content: tuple[object, ...]) -> Iterator[Text]:
    return (part for part in content if isinstance(part, Text))
