"""A trace, ready to be compared with.

Rules:

1. Turns stand in the order in which they settled; a number is a place in it. Where the clock was set meanwhile their
   times are put right by it.
2. A call that the agent hung up on has no answer: it stands here, for its order, and is the last to be chosen.
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
"""Seconds that a turn may be recorded later than one that settled after it."""

Thread: TypeAlias = tuple[str, bool]
"""A conversation by its id, and whether it is the side calls of it."""


class Recorded(NamedTuple):
    """One recorded turn."""

    number: int
    turn: Turn
    key: Key
    conversation: Conversation
    arrived: float
    """When it came: seconds since the epoch."""

    @property
    def kind(self) -> CallKind:
        return self.conversation.kind

    @property
    def thread(self) -> Thread:
        """Its conversation; a side call has that of its main conversation, and is no part of it."""
        return thread_of(self.conversation)

    @property
    def settled(self) -> float:
        return self.arrived + self.turn.duration


class Record:
    """The turns of a trace by what they ask.

    Args:
        trace: it.
        roots: the directories of its agents.
        results: whether what tools gave counts.
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
        """The turns of each conversation, in the order in which they came."""
        self._by_key: dict[Key, list[Recorded]] = {}
        for each in sorted(self.turns, key=lambda each: each.arrived):
            self.threads.setdefault(each.thread, []).append(each)
            self._by_key.setdefault(each.key, []).append(each)

    def asking(self, key: Key) -> list[Recorded]:
        """The turns that ask this, in the order in which they came."""
        return self._by_key.get(key, [])


def _arrivals(turns: Iterable[Turn], conversations: Mapping[str, Conversation]) -> Iterator[float]:
    """When the calls of these turns came, by one clock.

    Each turn is put as early as it can be behind the one before it, by what the clock was set by so far. Where that is
    impossible it was set: back, if the call came before all others, and then it is put behind all answers; or forward,
    and then it came before that, behind the last answer of its conversation. How long nothing happened nobody knows.
    """
    first, latest, changes = float("inf"), float("-inf"), [0.0]
    ended: dict[Thread, float] = {}
    """By a conversation: when its latest turn settled."""
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
    """A conversation, and whether the call is a side call of it."""
    return conversation.id, conversation.kind == "side"
