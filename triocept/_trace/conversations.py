"""The conversations of a rollout: as the agent says, else by the messages.

A call whose agent does not name its conversation belongs to that of

1. the turn that it continues (see `graph`);
2. else the call that it says again, if that got no answer;
3. else the call whose conversation it goes on from, though not from its answer, which the agent has dropped (if it is
   no title that is asked for behind the task);
4. else, where no call so far had tools, the call of which it says all, and more in the last message: a program of DSPy
   tells there what its tools gave;
5. else the one whose summary it goes on from (see `compaction`);
6. else none: it begins one.

Two calls that say that they are not of one kind, or not of one family (`prompt_cache_key`), are of no one conversation.

A conversation without tools is a side call's, where other calls of the rollout have tools. Of the rest the first is the
main one, and the others are sub-agents'. Where no call has tools there is nothing to tell them by: each is a main one.
What a call is taken for while it waits can change when more is known: a title that comes first is the first of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from .._canonical.content import Json
from .._canonical.request import Request
from .compaction import Summaries, asks_for_summary
from .conversation import CallKind, Conversation, is_router, is_side_call
from .graph import Graph
from .relations import Place

if TYPE_CHECKING:
    from .turn import Turn

__all__ = ["Conversations"]

_FAMILY = "prompt_cache_key"
_GROWING = 64
"""Conversations without tools that may go on in a longer text: the latest, more than are usually at work at once."""
_NEAR = 64
"""Characters on each side of a text's middle that are looked at before the rest."""


class _Unnamed:
    """A conversation that the agent has not named."""

    def __init__(self, turn: Turn, node: int) -> None:
        self.id = turn.id
        self.first = turn.request
        self.latest = turn.request
        self.node = node
        """In which its latest call ends."""
        self.said = _said_kind(turn)
        self.has_tools = False
        self._told: str | None = None

    @property
    def told(self) -> str:
        """The last message of its latest call."""
        if self._told is None:
            self._told = self.latest.messages[-1].text
        return self._told

    @property
    def ends_with_user(self) -> bool:
        """Whether that is the user's."""
        messages = self.latest.messages
        return bool(messages) and messages[-1].role == "user"

    def add(self, request: Request, node: int) -> None:
        """One more call of it."""
        self.latest, self.node, self._told = request, node, None
        self.has_tools = self.has_tools or bool(request.tools)

    def kind(self, *, has_tools: bool, others_have: bool, has_main: bool) -> CallKind:
        """What its calls are; whether it has tools, others of the rollout have, and there is a main one already."""
        if self.said is not None:
            return self.said
        is_aside = is_side_call(self.first) or asks_for_summary(self.first)
        if is_router(self.first) or (others_have and not has_tools and is_aside):
            return "side"
        return "sub_agent" if has_main and (has_tools or others_have) else "main"


_Found: TypeAlias = Conversation | _Unnamed


class Conversations:
    """Whose calls the turns so far are. What a turn costs is what is new in it."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._of: dict[str, _Found] = {}
        """By turn."""
        self._unnamed: list[_Unnamed] = []
        self._asked: dict[int, _Found] = {}
        """By the node that a call ends in: whose it was, the latest there."""
        self._unanswered: dict[int, _Found] = {}
        """Likewise, if it got no answer."""
        self._summaries = Summaries()
        self._growing: dict[str, _Unnamed] = {}
        """By their ids: those without a name whose call ended with the user, the latest at the end; where none has
        tools."""
        self._going_on: _Unnamed | None = None
        """That of the latest call with tools."""
        self._count = 0
        self._has_tools = False
        self._has_main = False
        """Whether the agent has named a main conversation."""

    def __len__(self) -> int:
        """How many turns it knows."""
        return self._count

    @property
    def parents(self) -> dict[str, str | None]:
        """For each turn's id, that of the turn it continues; None begins a thread of its own."""
        return self._graph.parents

    def add(self, turn: Turn) -> Place:
        """One more turn; gives where it stands."""
        node = self._graph.nodes.end_of(turn.request.messages)
        found = self._of[turn.id] = self._find(turn, node)
        self._graph.add(turn, node)
        parent = self.parents[turn.id]
        summary = self._summary_for(turn, found) if parent is None else None
        self._asked[node] = found
        self._unanswered.pop(node, None)
        if turn.outcome != "answered":
            self._unanswered[node] = found
        self._summaries.add(turn)
        self._count_in(turn, found, node)
        return Place(node=node, conversation=_key(found), parent=parent, summary=summary)

    def _count_in(self, turn: Turn, found: _Found, node: int) -> None:
        has_tools = _has_tools(turn)
        if isinstance(found, _Unnamed):
            if found.id == turn.id:
                self._unnamed.append(found)
            found.add(turn.request, node)
            if not self._has_tools:
                self._keep_growing(found)
            self._going_on = found if has_tools else self._going_on
        elif found.kind == "main":
            self._has_main = True
        self._has_tools = self._has_tools or has_tools
        self._count += 1

    def _keep_growing(self, conversation: _Unnamed) -> None:
        growing = self._growing
        growing.pop(conversation.id, None)
        if conversation.ends_with_user:
            growing[conversation.id] = conversation
        if len(growing) > _GROWING:
            del growing[next(iter(growing))]

    def one(self, turn_id: str) -> Conversation:
        """Whose call this turn is."""
        found = self._of[turn_id]
        return found if isinstance(found, Conversation) else self._name(self._unnamed, None)[found.id]

    def all(self) -> dict[str, Conversation]:
        """For each turn's id, whose call it is."""
        named = self._name(self._unnamed, None)
        return {id_: named[each.id] if isinstance(each, _Unnamed) else each for id_, each in self._of.items()}

    def tell(self, turn: Turn) -> Conversation:
        """Whose call this is, that is none of the turns yet."""
        found = self._find(turn, self._graph.nodes.end_of(turn.request.messages))
        if not isinstance(found, _Unnamed):
            return found
        unnamed = self._unnamed if found.id != turn.id else [*self._unnamed, found]
        return self._name(unnamed, (found, _has_tools(turn)))[found.id]

    def _name(
        self, unnamed: Iterable[_Unnamed], asking: tuple[_Unnamed, bool] | None
    ) -> dict[str, Conversation]:
        """The conversations by their ids, as if this one had one more call, with tools or without."""
        who, has_tools = asking or (None, False)
        others_have, has_main = self._has_tools or has_tools, self._has_main
        named: dict[str, Conversation] = {}
        for each in unnamed:
            mine = each.has_tools or (each is who and has_tools)
            kind = each.kind(has_tools=mine, others_have=others_have, has_main=has_main)
            named[each.id] = Conversation(id=each.id, kind=kind)
            has_main = has_main or kind == "main"
        return named

    def _find(self, turn: Turn, node: int) -> _Found:
        """The conversation of a call that ends in this node; a new one, if it begins one."""
        if turn.conversation is not None and turn.conversation.id:
            return turn.conversation
        parent = self._graph.continued(node)
        if parent is not None and _agree(turn, self._of[parent]):
            return self._of[parent]
        if (again := self._unanswered.get(node)) is not None and _agree(turn, again):
            return again
        for at in self._graph.nodes.upwards(self._graph.nodes.before(node)):
            asked = self._asked.get(at)
            if isinstance(asked, _Unnamed) and _agree(turn, asked) and not _is_aside(turn, asked):
                return asked
        return self._grown(turn, node) or self._summed_up(turn) or _Unnamed(turn, node)

    def _grown(self, turn: Turn, node: int) -> _Unnamed | None:
        """The conversation whose latest call said the same, but for less in its last message."""
        if self._has_tools or turn.request.tools:
            return None
        nodes, last = self._graph.nodes, turn.request.last
        before = nodes.before(node)
        if last is None or last.role != "user" or before == nodes.before(before):
            return None
        text = last.text
        for each in reversed(self._growing.values()):
            if nodes.before(each.node) == before and _is_grown(text, each.told) and _agree(turn, each):
                return each
        return None

    def _summed_up(self, turn: Turn) -> _Unnamed | None:
        """The conversation that goes on from a summary. Where that was asked for aside, it is the one going on."""
        for summary in self._summaries.told_in(turn.request):
            found: _Found | None = self._of[summary]
            if isinstance(found, _Unnamed) and turn.request.tools and not found.has_tools:
                found = self._going_on
            if isinstance(found, _Unnamed) and _agree(turn, found):
                return found
        return None

    def _summary_for(self, turn: Turn, found: _Found) -> str | None:
        """The turn whose summary this one goes on from, which continues nothing."""
        named = isinstance(found, Conversation)
        for summary in self._summaries.told_in(turn.request):
            other = self._of[summary]
            if isinstance(other, Conversation) == named and (not named or other.id == found.id):
                return summary
        return None


def _key(found: _Found) -> Hashable:
    """Equal for the calls of one conversation: its side calls may bear its id."""
    return (found.id, found.kind) if isinstance(found, Conversation) else found.id


def _said_kind(turn: Turn) -> CallKind | None:
    return turn.conversation.kind if turn.conversation is not None else None


def _agree(turn: Turn, other: _Found) -> bool:
    """Whether what the agent says of this call fits to what it has said of the others."""
    said = _said_kind(turn)
    if isinstance(other, Conversation):
        return other.kind != "tool" and said in (other.kind, None)
    mine, family = _family(turn.request), _family(other.latest)
    return said == other.said and (mine == family or mine is None or family is None)


def _is_aside(turn: Turn, other: _Unnamed) -> bool:
    """Whether a call looks like a side call, and those of the conversation have tools."""
    return other.has_tools and is_side_call(turn.request)


def _family(request: Request) -> Json:
    return (request.extra or {}).get(_FAMILY)


def _has_tools(turn: Turn) -> bool:
    """Whether it is the agent's, and offers tools."""
    return bool(turn.request.tools) and _said_kind(turn) != "tool"


def _is_grown(new: str, old: str) -> bool:
    """Whether the one is the other with something put in at one place."""
    more, middle = len(new) - len(old), len(old) // 2
    if more <= 0:
        return False
    near = max(0, middle - _NEAR)
    if not new.startswith(old[near:middle], near) and not new.startswith(
        old[middle : middle + _NEAR], middle + more
    ):
        return False  # it stands before the middle or behind it: one of both is where it was
    low, high = 0, len(old)
    while low < high:  # for where they part
        middle = (low + high + 1) // 2
        low, high = (middle, high) if new.startswith(old[:middle]) else (low, middle - 1)
    return new.endswith(old[low:])
