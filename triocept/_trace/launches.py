"""Which tool call started a sub-agent: the one whose task its conversation begins with.

The task is an argument of the call (`prompt` of Claude Code's Agent and of opencode's task, `message` of Codex's
spawn_agent), and it stands in a message of the user in the sub-agent's first call, alone or among others. Of several
such calls it is the one with the longest task; of equals, one that has started no sub-agent so far, the earliest.
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
"""Calls that are looked at: sub-agents begin soon after the call that starts them."""
_LONG = 16
"""Characters from which on a text is nobody's word by chance: a shorter one has to be all that a part says."""


class Launch:
    """A tool call that may have started a sub-agent."""

    def __init__(self, turn: str, number: int, call: ToolCall) -> None:
        self.turn = turn
        """The id of the turn whose answer called the tool."""
        self.number = number
        """Its place among the calls of that answer."""
        self.used = False
        self._call = call

    @cached_property
    def tasks(self) -> list[str]:
        """The texts among its arguments, the longest first."""
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
        """One more turn."""
        if turn.response is not None:
            calls = enumerate(turn.response.tool_calls)
            self._kept.extend(Launch(turn.id, number, call) for number, call in calls)

    def of(self, request: Request) -> Launch | None:
        """The call that started the conversation that begins with this one; it counts as used."""
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
