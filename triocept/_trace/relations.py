"""Find the relation of each turn to earlier turns: `continues`, `retry`, `compaction`, and others.

The first of these rules that fits determines the relation:

1. A call that repeats an earlier call of its conversation is a `retry` or a `repeat`. The call is a `retry` if the
   earlier call got no answer, or if the agent's SDK marks the call as a retry.
2. If a call sends the messages and the answer of an earlier turn of its conversation, the call `continues` this turn
   (see `graph`).
3. A side call, or a call from a tool of the program, is related to the latest turn of the current conversation.
4. The first call of a sub-agent is related to the tool call that started the sub-agent. If no such tool call is found,
   the call is related to the turn that it continues.
5. Any other first call of a conversation `continues` a turn of another conversation, or `begins` a new one.
6. A later call that continues no turn restarts from a summary (`compaction`: see `conversations`), or else it is a
   `rewrite` of the conversation.

The time for a turn depends only on its new messages. The kind of a conversation may change later, so the relations are
computed on demand.

The tool call that started a sub-agent has the sub-agent's task as an argument (`prompt` of Claude Code's Agent and of
opencode's task, `message` of Codex's spawn_agent). A user's message in the sub-agent's first call contains the task. Of
several tool calls with such a task, the call with the longest task is chosen; of equally long tasks, the earliest call
that has started no sub-agent yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Text, ToolCall
from .._canonical.request import Request
from ..errors import DialectError
from .conversation import Conversation, is_side_call
from .conversations import Place
from .texts import texts_in
from .turn import Turn

RelationKind: TypeAlias = Literal[
    "begins",  # a conversation of its own, for an unknown reason
    "continues",  # sends the messages of `turn`, its answer, and more
    "retry",  # of `turn`, which was not answered, or whose answer the agent did not get
    "repeat",  # the same question as `turn`, which was answered
    "compaction",  # continues from the summary in the answer of `turn`: the agent has dropped the rest
    "rewrite",  # sends the conversation of `turn` in other words from its beginning
    "sub_agent",  # begins a sub-agent; the answer of `turn` called the tool that started it
    "side",  # a title, a router, a warm-up, made when the conversation was at `turn`
    "tool",  # a tool of the program made it, when the conversation was at `turn`
]


class Relation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Relation of a turn to earlier turns."""

    kind: RelationKind
    turn: str | None = None
    """Id of the related earlier turn; None if the turn begins a conversation and its origin is unknown."""
    call: int | None = None
    """For a sub-agent: the tool call that started it, as an index from 0 among the tool calls in the answer of `turn`.
    None if unknown."""


class TurnBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence of turns in which each turn continues the previous turn.

    Each turn of a trace is in exactly one branch.

    If several turns continue the same turn, the first of them is in that turn's branch. Each other turn begins a new
    branch.
    """

    turns: tuple[Turn, ...]
    leaves: str | None = None
    """Id of the turn, in another branch, that the first turn of this branch continues; None if it continues no turn."""
    conversation: Conversation
    """Conversation of the branch's first turn."""


_LAUNCHES = 64
"""Number of latest tool calls among which the call that started a sub-agent is searched. A sub-agent begins soon after
this call."""
_LONG = 16
"""Minimum characters of a task that is searched within the text of a message. A shorter task must equal the whole text.
"""


class Launch:
    """A tool call that possibly started a sub-agent."""

    def __init__(self, turn: str, number: int, call: ToolCall) -> None:
        self.turn = turn
        """Id of the turn whose answer called the tool."""
        self.number = number
        """Index of this call, from 0, among the tool calls of the answer of `turn`."""
        self.used = False
        self._call = call

    @cached_property
    def tasks(self) -> list[str]:
        """All texts in the call's arguments, the longest first. One of them may be the task of a sub-agent."""
        try:
            found = texts_in(self._call.parsed())
        except DialectError:
            found = iter((self._call.arguments,))
        return sorted({text.strip() for text in found} - {""}, key=len, reverse=True)


class Launches:
    """The latest tool calls. Each of them has possibly started a sub-agent."""

    def __init__(self) -> None:
        self._kept: deque[Launch] = deque(maxlen=_LAUNCHES)

    def add(self, turn: Turn) -> None:
        if turn.response is not None:
            calls = enumerate(turn.response.tool_calls)
            self._kept.extend(Launch(turn.id, number, call) for number, call in calls)

    def of(self, request: Request) -> Launch | None:
        """Return the tool call that started the conversation whose first request is `request`, and mark it as used.

        Return None if no argument of the latest tool calls is a task that the request contains.
        """
        if not self._kept:
            return None
        parts = [
            part.text
            for each in request.messages
            if each.role == "user"
            for part in each.content
            if isinstance(part, Text)
        ]

        def holds(task: str) -> bool:
            return any(task in part if len(task) >= _LONG else task == part.strip() for part in parts)

        found: Launch | None = None
        longest = (0, False)
        for launch in self._kept:
            length = next((len(task) for task in launch.tasks if holds(task)), 0)
            if length and (length, not launch.used) > longest:
                found, longest = launch, (length, not launch.used)
        if found is not None:
            found.used = True
        return found


class _Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a turn that later turns do not change."""

    turn: str
    place: Place
    again: Relation | None
    before: str | None
    """Id of the previous turn in this turn's conversation; None for the first turn."""
    launch: Launch | None
    leaves: bool
    """True if this turn continues a turn of another conversation."""

    def relation(self, conversation: Conversation, aside: str | None) -> Relation:
        """Return the turn's relation to earlier turns.

        `aside` is the id of the turn to which this turn is related if this turn is a side call and continues no turn.
        """
        parent = self.place.parent
        if self.again is not None:
            return self.again
        if parent is not None and not self.leaves:
            return Relation(kind="continues", turn=parent)
        if conversation.kind in ("side", "tool"):
            return Relation(kind=conversation.kind, turn=parent or aside)
        if self.before is None and conversation.kind == "sub_agent":
            if (launch := self.launch) is None:
                return Relation(kind="sub_agent", turn=parent)
            return Relation(kind="sub_agent", turn=launch.turn, call=launch.number)
        if parent is not None:
            return Relation(kind="continues", turn=parent)
        if self.before is None:
            return Relation(kind="begins")
        if self.place.summary is not None:
            return Relation(kind="compaction", turn=self.place.summary)
        return Relation(kind="rewrite", turn=self.before)


class Relations:
    """The relations of all turns that were added so far."""

    def __init__(self) -> None:
        self._facts: list[_Fact] = []
        self._launches = Launches()
        self._asked: dict[tuple[int, Hashable], Turn] = {}
        self._latest: dict[Hashable, str] = {}
        self._conversation_of: dict[str, Hashable] = {}

    def add(self, turn: Turn, place: Place) -> None:
        whose, parent = place.conversation, place.parent
        again: Relation | None = None
        if (earlier := self._asked.get((place.node, whose))) is not None:
            is_retry = earlier.outcome != "answered" or turn.attempt > 1
            again = Relation(kind="retry" if is_retry else "repeat", turn=earlier.id)
        # A request for a title contains the task, too, but no tool call has started it.
        begins = whose not in self._latest and not is_side_call(turn.request)
        self._facts.append(
            _Fact(
                turn=turn.id,
                place=place,
                again=again,
                before=self._latest.get(whose),
                launch=self._launches.of(turn.request) if begins else None,
                leaves=parent is not None and self._conversation_of[parent] != whose,
            )
        )
        self._launches.add(turn)
        self._asked[place.node, whose] = turn
        self._latest[whose] = turn.id
        self._conversation_of[turn.id] = whose

    def all(self, conversations: Mapping[str, Conversation]) -> dict[str, Relation]:
        """Return a dict from the id of each turn to its relation. `conversations` maps these ids to conversations."""
        found: dict[str, Relation] = {}
        at: dict[str, str] = {}
        """For each conversation, by its id: the id of its latest turn so far, while the loop goes through the turns."""
        for fact in self._facts:
            conversation = conversations[fact.turn]
            aside = at.get(conversation.id) or at.get(conversation.parent or "")
            aside = aside or next(reversed(at.values()), None)
            found[fact.turn] = fact.relation(conversation, aside)
            if conversation.kind in ("main", "sub_agent"):
                at.pop(conversation.id, None)
                at[conversation.id] = fact.turn
        return found
