"""A trace, prepared for comparisons.

Rules:

1. Turns are in the order in which they settled; a turn's number is its position. If the clock was set during the run,
   this order corrects their times.
2. A call from which the agent disconnected has no answer: it is kept for the order, and is chosen last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from ..._trace.conversation import CallKind, Conversation
from ..._trace.trace import Trace
from ..._trace.turn import Turn
from ..roots import mask_of
from .moves import Key, Normal, key_of

_TOGETHER = 1.0
"""Seconds by which a turn may be recorded after a turn that settled later."""

Thread: TypeAlias = tuple[str, bool]
"""Id of a conversation, and True for its side calls."""


class Recorded(NamedTuple):
    """A recorded turn."""

    number: int
    turn: Turn
    key: Key
    conversation: Conversation
    arrived: float
    """Arrival of the call: seconds since the epoch."""

    @property
    def kind(self) -> CallKind:
        return self.conversation.kind

    @property
    def thread(self) -> Thread:
        """The conversation; a side call has the id of its main conversation, without being part of it."""
        return thread_of(self.conversation)

    @property
    def settled(self) -> float:
        return self.arrived + self.turn.duration


class Record:
    """The turns of a trace by the content of their requests.

    Args:
        trace: the trace.
        roots: the directories of its agents.
        results: True: results of tools count.
    """

    def __init__(
        self,
        trace: Trace,
        roots: Iterable[dict[str, str]] = (),
        *,
        results: bool = False,
    ) -> None:
        self.trace = trace
        normal = Normal(mask_of(roots), results=results)
        self.normal: Normal = normal
        conversations = trace.conversations
        self.turns: tuple[Recorded, ...] = tuple(
            Recorded(
                number,
                turn,
                key_of(turn.request, normal),
                conversations[turn.id],
                arrived,
            )
            for number, (turn, arrived) in enumerate(zip(trace, _arrivals(trace, conversations), strict=True))
        )
        self.threads: dict[Thread, list[Recorded]] = {}
        """The turns of each conversation, in order of arrival."""
        self._by_key: dict[Key, list[Recorded]] = {}
        for each in sorted(self.turns, key=lambda each: each.arrived):
            self.threads.setdefault(each.thread, []).append(each)
            self._by_key.setdefault(each.key, []).append(each)

    def asking(self, key: Key) -> list[Recorded]:
        """Return the turns with this content, in order of arrival."""
        return self._by_key.get(key, [])


def _arrivals(turns: Iterable[Turn], conversations: Mapping[str, Conversation]) -> Iterator[float]:
    """Yield the arrival times of these turns' calls, by one clock.

    Each turn is placed as early as possible after the previous turn, by the clock corrections so far. If that is
    impossible, the clock was set. Set back: the call came before all others, and is placed after all answers. Set
    forward: the call came before that, and is placed after the last answer of its conversation. The real idle time is
    unknown.
    """
    first, latest, changes = float("inf"), float("-inf"), [0.0]
    ended: dict[Thread, float] = {}
    """Time at which the latest turn of each conversation settled."""
    for turn in turns:
        thread, settled = thread_of(conversations[turn.id]), turn.started_at + turn.duration
        fitting = [change for change in changes if settled + change > latest - _TOGETHER]
        if not fitting and turn.started_at < first:
            changes += (fitting := [latest - turn.started_at])
        elif not fitting:
            changes += (fitting := [max(latest - settled, ended.get(thread, latest) - turn.started_at)])
        change = min(fitting)
        latest = max(latest, settled + change)
        ended[thread] = settled + change
        first = min(first, turn.started_at + change)
        yield turn.started_at + change


def thread_of(conversation: Conversation) -> Thread:
    """Return the conversation's id, and True if the call is a side call."""
    return conversation.id, conversation.kind == "side"
