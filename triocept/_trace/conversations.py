"""The conversations of a rollout: as the agent names them, else derived from the messages.

A call whose agent does not name its conversation belongs to the conversation of

1. the turn that the call continues (see `graph`);
2. else the call that it repeats, if that call got no answer;
3. else the call whose messages it continues without the answer, which the agent has dropped (unless it requests a title
   behind the task);
4. else, where no earlier call had tools, the call whose messages it repeats with more text in the last message: a
   program of DSPy adds the results of its tools there;
5. else the conversation that was handed over to another agent (see `handoffs`);
6. else the conversation whose summary the call continues from (see `compaction`);
7. else none: the call begins a conversation.

Two calls of different kinds or different families (`prompt_cache_key`), as named by the agent, never share a
conversation.

Where other calls of the rollout have tools, a short conversation without tools is a side call in three cases. It
requests an object; it gives a summary; or, as a title is, it is about the user's text in a conversation with tools. A
long conversation without tools is a side call if it requests a summary. A member of a crew (CrewAI) has a task of its
own. Of the remaining conversations the first is the main conversation, and the others are sub-agents'. Where no call
has tools, each conversation is a main one, because nothing distinguishes them. The kind of a waiting call can change
with later calls: a title that comes first is initially the main conversation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from .._canonical.content import Json, Text
from .._canonical.request import Request
from .._canonical.response import Response
from .conversation import CallKind, Conversation, is_router, is_side_call
from .graph import Graph
from .relations import Place
from .restarts import Summaries, asks_for_summary, gives_summary, is_handed_over

if TYPE_CHECKING:
    from .turn import Turn

_FAMILY = "prompt_cache_key"
_GROWING = 64
"""Maximum conversations without tools that may continue in a longer text: the latest, more than usually run at once."""
_HANDED = 16
"""Maximum conversations, the latest, that may be handed over."""
_QUESTIONS = 64
"""Maximum conversations with tools, the latest, that a title may be about."""
_QUESTION = 8
"""Maximum texts of the user compared in a first call: the latest."""
_NEAR = 64
"""Characters on each side of a text's middle that are compared before the rest."""


class _Unnamed:
    """A conversation that the agent has not named."""

    def __init__(self, turn: Turn, node: int) -> None:
        self.id = turn.id
        self.first = turn.request
        self.latest = turn.request
        self.node = node
        """Node in which the conversation's latest call ends."""
        self.said = _said_kind(turn)
        self.has_tools = False
        self.answer: Response | None = None
        """Answer to the conversation's latest call."""
        self._last_text: str | None = None
        self._others: set[Hashable] = set()
        """Conversations that the first call is not about, as far as compared."""

    @property
    def last_text(self) -> str:
        """Text of the last message of the latest call."""
        if self._last_text is None:
            self._last_text = self.latest.messages[-1].text
        return self._last_text

    def add(self, turn: Turn, node: int) -> None:
        """Add a call to the conversation."""
        self.latest, self.node, self._last_text = turn.request, node, None
        self.answer = turn.response
        self.has_tools = self.has_tools or bool(turn.request.tools)

    def kind(self, *, has_tools: bool, others_have: bool, has_main: bool, questions: _Questions) -> CallKind:
        """Return the kind of the conversation's calls.

        Args:
            has_tools: this conversation has tools.
            others_have: other calls of the rollout have tools.
            has_main: there is a main conversation already.
            questions: the user's texts, by conversation.
        """
        if self.said is not None:
            return self.said
        if is_router(self.first) or (others_have and not has_tools and self._is_aside(questions)):
            return "side"
        return "sub_agent" if has_main and (has_tools or others_have) else "main"

    def _is_aside(self, questions: _Questions) -> bool:
        """Return True if the first call, which has no tools, requests a title, a summary or an object."""
        first = self.first
        if not is_side_call(first):
            return asks_for_summary(first)
        if first.output_format is not None or gives_summary(self.answer):
            return True
        new = {whose: question for whose, question in questions.items() if whose not in self._others}
        whole = "\n".join(message.text for message in first.messages)
        last = first.last.text.strip() if first.last is not None else ""
        for whose, question in new.items():  # the question of another conversation, or a part of it
            if any(text in whole or (last and last in text) for text in question):
                return True
            self._others.add(whose)
        return False


_Questions: TypeAlias = Mapping[Hashable, tuple[str, ...]]
"""By conversation: the texts of the user in its first call."""
_Found: TypeAlias = Conversation | _Unnamed


class Conversations:
    """The conversations of the turns so far. The cost of adding a turn depends on its new messages only."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._of: dict[str, _Found] = {}
        """Conversation by turn id."""
        self._unnamed: list[_Unnamed] = []
        self._asked: dict[int, _Found] = {}
        """Conversation of the latest call that ends in a node, by node."""
        self._unanswered: dict[int, _Found] = {}
        """Conversation of the latest unanswered call that ends in a node, by node."""
        self._summaries = Summaries()
        self._growing: dict[str, _Unnamed] = {}
        """Unnamed conversations whose call ended with the user, by id, the latest at the end; empty once a call has
        tools."""
        self._going_on: _Unnamed | None = None
        """Conversation of the latest call with tools."""
        self._last: _Found | None = None
        """Conversation of the latest turn."""
        self._questions: dict[Hashable, tuple[str, ...]] = {}
        """Questions of the latest conversations with tools."""
        self._count = 0
        self._has_tools = False
        self._has_main = False
        """True if the agent has named a main conversation."""

    def __len__(self) -> int:
        """Return the number of turns added."""
        return self._count

    @property
    def parents(self) -> dict[str, str | None]:
        """For each turn's id, the id of the turn it continues; None: the turn begins a thread."""
        return self._graph.parents

    def add(self, turn: Turn) -> Place:
        """Add a turn, and return its place."""
        node = self._graph.nodes.end_of(turn.request.messages)
        found = self._of[turn.id] = self._find(turn, node)
        self._graph.add(turn, node)
        parent = self.parents[turn.id]
        summary: str | None = None
        """The turn whose summary this turn continues from, if it continues no turn."""
        named = isinstance(found, Conversation)
        for each in self._summaries.found_in(turn.request) if parent is None else ():
            other = self._of[each]
            if isinstance(other, Conversation) == named and (not named or other.id == found.id):
                summary = each
                break
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
            found.add(turn, node)
            if not self._has_tools:
                self._growing.pop(found.id, None)
                if turn.request.last is not None and turn.request.last.role == "user":
                    self._growing[found.id] = found
                if len(self._growing) > _GROWING:
                    del self._growing[next(iter(self._growing))]
            self._going_on = found if has_tools else self._going_on
        elif found.kind == "main":
            self._has_main = True
        if has_tools and (key := _key(found)) not in self._questions:
            self._questions[key] = _question_of(found.first if isinstance(found, _Unnamed) else turn.request)
            if len(self._questions) > _QUESTIONS:
                del self._questions[next(iter(self._questions))]
        self._has_tools = self._has_tools or has_tools
        self._last = found
        self._count += 1

    def one(self, turn_id: str) -> Conversation:
        """Return the conversation of a turn."""
        found = self._of[turn_id]
        return found if isinstance(found, Conversation) else self._name(self._unnamed, None)[found.id]

    def all(self) -> dict[str, Conversation]:
        """Return the conversation of each turn, by the turn's id."""
        named = self._name(self._unnamed, None)
        return {id_: named[each.id] if isinstance(each, _Unnamed) else each for id_, each in self._of.items()}

    def of_call(self, turn: Turn) -> Conversation:
        """Return the conversation of a call that is not yet a turn."""
        found = self._find(turn, self._graph.nodes.end_of(turn.request.messages))
        if not isinstance(found, _Unnamed):
            return found
        unnamed = self._unnamed if found.id != turn.id else [*self._unnamed, found]
        return self._name(unnamed, (found, _has_tools(turn)))[found.id]

    def _name(
        self, unnamed: Iterable[_Unnamed], asking: tuple[_Unnamed, bool] | None
    ) -> dict[str, Conversation]:
        """Return the conversations by id, as if the one in `asking` had one more call, with tools or without."""
        who, has_tools = asking or (None, False)
        others_have, has_main = self._has_tools or has_tools, self._has_main
        questions: _Questions = self._questions
        if who is not None and has_tools and who.id not in questions:
            questions = {**questions, who.id: _question_of(who.first)}
        named: dict[str, Conversation] = {}
        for each in unnamed:
            mine = each.has_tools or (each is who and has_tools)
            kind = each.kind(has_tools=mine, others_have=others_have, has_main=has_main, questions=questions)
            named[each.id] = Conversation(id=each.id, kind=kind)
            has_main = has_main or kind == "main"
        return named

    def _find(self, turn: Turn, node: int) -> _Found:
        """Return the conversation of a call that ends in this node; a new conversation, if the call begins one."""
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
        found = self._grown(turn, node) or self._handed_over(turn) or self._summed_up(turn)
        return found or _Unnamed(turn, node)

    def _grown(self, turn: Turn, node: int) -> _Unnamed | None:
        """Return the conversation whose latest call had the same messages, with a shorter last message."""
        if self._has_tools or turn.request.tools:
            return None
        nodes, last = self._graph.nodes, turn.request.last
        before = nodes.before(node)
        if last is None or last.role != "user" or before == nodes.before(before):
            return None
        text = last.text
        for each in reversed(self._growing.values()):
            if nodes.before(each.node) == before and _is_grown(text, each.last_text) and _agree(turn, each):
                return each
        return None

    def _handed_over(self, turn: Turn) -> _Unnamed | None:
        """Return the conversation that this call continues under another system prompt."""
        request = turn.request
        if asks_for_summary(request):
            return None
        for each in reversed(self._unnamed[-_HANDED:]):
            answer = each.answer
            if (
                answer is not None
                and _agree(turn, each)
                and (request.tools or answer.tool_calls or not each.has_tools)  # else it is a side call
                and is_handed_over(
                    request,
                    each.latest,
                    answer,
                    question=_question_of(each.first),
                    follows=each is self._last,
                )
            ):
                return each
        return None

    def _summed_up(self, turn: Turn) -> _Unnamed | None:
        """Return the conversation that continues from a summary.

        For a summary requested in a side call: the ongoing conversation.
        """
        for summary in self._summaries.found_in(turn.request):
            found: _Found | None = self._of[summary]
            if isinstance(found, _Unnamed) and turn.request.tools and not found.has_tools:
                found = self._going_on
            if isinstance(found, _Unnamed) and _agree(turn, found):
                return found
        return None


def _key(found: _Found) -> Hashable:
    """Return a key that is equal for the calls of one conversation: side calls may carry the main conversation's id."""
    return (found.id, found.kind) if isinstance(found, Conversation) else found.id


def _said_kind(turn: Turn) -> CallKind | None:
    return turn.conversation.kind if turn.conversation is not None else None


def _agree(turn: Turn, other: _Found) -> bool:
    """Return True if the kind and family that the agent names for this call match those of the conversation."""
    said = _said_kind(turn)
    if isinstance(other, Conversation):
        return other.kind != "tool" and said in (other.kind, None)
    mine, family = _family(turn.request), _family(other.latest)
    return said == other.said and (mine == family or mine is None or family is None)


def _is_aside(turn: Turn, other: _Unnamed) -> bool:
    """Return True if a call looks like a side call, while the conversation's calls have tools."""
    return other.has_tools and is_side_call(turn.request)


def _family(request: Request) -> Json:
    return (request.extra or {}).get(_FAMILY)


def _has_tools(turn: Turn) -> bool:
    """Return True if a turn is the agent's, and offers tools."""
    return bool(turn.request.tools) and _said_kind(turn) != "tool"


def _question_of(request: Request) -> tuple[str, ...]:
    """Return the texts of the user in a call, without empty ones; of a long history the last ones."""
    said = [
        part.text
        for message in request.messages
        if message.role == "user"
        for part in message.content
        if isinstance(part, Text) and part.text.strip()
    ]
    return tuple(said[-_QUESTION:])


def _is_grown(new: str, old: str) -> bool:
    """Return True if the new text is the old text with an insertion at one place."""
    more, middle = len(new) - len(old), len(old) // 2
    if more <= 0:
        return False
    near = max(0, middle - _NEAR)
    if not new.startswith(old[near:middle], near) and not new.startswith(
        old[middle : middle + _NEAR], middle + more
    ):
        return False  # the insertion is before the middle or behind it: one of the two sides is unmoved
    low, high = 0, len(old)
    while low < high:  # find where the texts part
        middle = (low + high + 1) // 2
        low, high = (middle, high) if new.startswith(old[:middle]) else (low, middle - 1)
    return new.endswith(old[low:])
