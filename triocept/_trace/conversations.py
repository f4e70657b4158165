"""Find the conversation of each call, by the name that the agent sends, or by the messages that the call continues.

The first rule that fits decides which conversation a call belongs to:

1. The agent names the conversation (`claimed_conversation` in `_rollout/calls`: headers of Claude Code, Codex, …).
2. The call continues a turn (see `graph`): it sends the turn's messages, the turn's answer, and more messages. The
   answer may be repeated unchanged, joined from broken answers, or reworded. If several turns fit, the call continues
   the turn with the most messages; of turns with equally many messages, the latest.
3. The call repeats an earlier call that got no answer.
4. The call sends the messages of an earlier call and more messages, but not the answer to the earlier call, which the
   agent has dropped. Exception: the call offers no tools, but the conversation has tools. Such a call is probably a
   request for a title.
5. The call repeats the latest call of one of the last 64 conversations, with one piece of text added to the last
   message, which is the user's. The rule applies only while no call of the rollout has tools. (This rule is needed for
   DSPy programs, which add the results of their tools to the last message.)
6. The call is a handoff (see below) from one of the last 16 conversations: another agent takes the conversation over.
7. The call is a compaction (see below): it contains the summary from one of the last 16 answers that may be summaries.
8. Otherwise the call begins a new conversation.

By rules 4 to 7, a call joins only a conversation that the agent has not named.

Messages are equal if their roles, texts, calls, results and media are equal (`THREAD` in `_canonical/form`). Reasoning,
ids of calls, cache marks and the split of a text into parts do not count. By rules 2 to 7, two calls never share a
conversation if the agent states different kinds for them. If the agent names no conversation, two calls with different
families (`prompt_cache_key`) never share a conversation either.

In a handoff, another agent continues the conversation under its own system prompt. After the system prompt, the first
call of the other agent has one of these forms:

1. The call sends the messages of the conversation's latest call, followed by the answer to that call. The answer is
   unchanged (OpenAI Agents), or retold as text that names each tool that the answer called (ADK).
2. The call sends the messages of the latest call and its answer, all without tool calls, tool results and reasoning
   (`remove_all_tools` of OpenAI Agents). The first call of a sub-agent with the same task has the same form. Therefore
   the call counts as a handoff only if the latest answer called no tools but `transfer_to_…`, and no other turn came
   between the two calls.
3. The call begins with a message of the model that contains the user's texts, and names each tool that the latest
   answer called (`nest_handoff_history` of OpenAI Agents). A sub-agent's first call begins with a message of the user,
   its task.

These forms were observed with openai-agents 0.24 and google-adk 2.13. Histories that were filtered in other ways are
not recognized.

In a compaction, an agent whose context is full requests a summary, and restarts its conversation from this summary. A
call contains the summary of a turn if all of these conditions hold:

1. The turn's answer is text without a tool call. Either the turn's call requested a summary, or the answer is marked as
   a summary.
2. A message of the later call contains the summary: the text between the marks or, if there are no marks, the whole
   answer.
3. No message of the later call contains the request for the summary. (An agent that repeats its whole history in one
   message, such as DSPy, compacts nothing.)

These conditions were observed with Claude Code 2.1, which puts the text between `<summary>` marks into the first
message of the user. gemini-cli and qwen-code use the mark `<state_snapshot>`. Other agents use no mark: their summaries
are recognized by the words of the request.

If the agent has not named a conversation, the following rules determine the conversation's kind. If no call of the
rollout has tools, each conversation is a main conversation, because nothing distinguishes them. Otherwise, a short
conversation without tools is a side call if it requests an output format, or if its answer is a summary. A call is also
a side call if it contains the user's text of a conversation with tools, as a request for a title does. A long
conversation without tools is a side call if it requests a summary. A member of a crew (CrewAI) has its own task, so its
conversation is not a side call. The first of the remaining conversations is the main conversation, and the others are
conversations of sub-agents. Later calls can change the kind of a conversation: a request for a title that is the first
call counts as the main conversation until the next call.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import dropwhile, groupby, takewhile
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from .._canonical.content import Json, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from .._canonical.form import join_messages, message_key
from .._canonical.request import Request
from .._canonical.response import Response
from .conversation import CallKind, Conversation, is_router, is_side_call
from .graph import Graph

if TYPE_CHECKING:
    from .turn import Turn

_FAMILY = "prompt_cache_key"
_GROWING = 64
"""Number of latest conversations that rule 5 compares with a call. Agents usually alternate between fewer
conversations."""
_HANDED = 16
"""Number of latest conversations that rule 6 (handoff) compares with a call."""
_QUESTIONS = 64
"""Number of latest conversations with tools whose user texts stay in memory. A request for a title is recognized by
such a text."""
_QUESTION = 8
"""Maximum user texts of a conversation's first call that stay in memory. If the call has more, the last of its texts
stay."""
_NEAR = 64
"""Number of characters before and after the middle of a text that are compared first, because a comparison of whole
texts is slow."""
_SUMMARIES = 16
"""Number of latest answers that stay in memory as possible summaries. (An agent continues from a recent summary.)"""
_MARKED = re.compile(r"<(summary|state_snapshot)>(.*?)</\1>", re.DOTALL)
_ASKED = re.compile("(?<!not a )summar|compact|compress|condens|snapshot|hand-?off", re.IGNORECASE)
"""Pattern of words in a request for a summary. The pattern does not match "not a summary", which CrewAI writes in
requests of other kinds."""
_TRANSFER = "transfer_to_"
"""Prefix of the names of handoff tools, by the convention of OpenAI Agents, LangGraph and AutoGen."""
_FILTERED = (Reasoning, ToolCall, ToolResult, Opaque)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a turn among earlier turns: its conversation, and the turn that it continues."""

    node: int
    """Node of the graph for the messages of the turn's request."""
    conversation: Hashable
    """Key of the turn's conversation. All turns of one conversation have equal keys."""
    parent: str | None
    """Id of the turn that this turn continues; None if it continues no turn."""
    summary: str | None
    """Id of the turn from whose summary this turn restarts; None if this turn continues another turn, or contains no
    summary."""


class _Unnamed:
    """A conversation that the agent has not named."""

    def __init__(self, turn: Turn, node: int) -> None:
        self.id = turn.id
        self.first = turn.request
        self.latest = turn.request
        self.node = node
        """Node of the graph for the messages of the conversation's latest call."""
        self.said = _said_kind(turn)
        self.has_tools = False
        self.answer: Response | None = None
        """Answer to the conversation's latest call."""
        self._last_text: str | None = None
        self._others: set[Hashable] = set()
        """Keys of the other conversations whose user texts do not occur in this conversation's first call. These
        conversations are not compared with this one again."""

    @property
    def last_text(self) -> str:
        if self._last_text is None:
            self._last_text = self.latest.messages[-1].text
        return self._last_text

    def add(self, turn: Turn, node: int) -> None:
        self.latest, self.node, self._last_text = turn.request, node, None
        self.answer = turn.response
        self.has_tools = self.has_tools or bool(turn.request.tools)

    def kind(self, *, has_tools: bool, others_have: bool, has_main: bool, questions: _Questions) -> CallKind:
        """Return the kind of the conversation's calls.

        Args:
            has_tools: True if a call of this conversation has tools.
            others_have: True if any call of the rollout has tools.
            has_main: True if an earlier conversation is the main conversation.
            questions: the user's texts in the first calls of other conversations.
        """
        if self.said is not None:
            return self.said
        if is_router(self.first) or (others_have and not has_tools and self._is_aside(questions)):
            return "side"
        return "sub_agent" if has_main and (has_tools or others_have) else "main"

    def _is_aside(self, questions: _Questions) -> bool:
        """Return True if the first call requests a title, a summary or an output format, or if its answer is a summary.

        The caller must check that the conversation's calls have no tools.
        """
        first = self.first
        if not is_side_call(first):
            return _asks_for_summary(first)
        if first.output_format is not None or _gives_summary(self.answer):
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
"""For each conversation: the user's texts in its first call. The key identifies the conversation (see `_key`)."""
_Found: TypeAlias = Conversation | _Unnamed


class Conversations:
    """Finds the conversation of each turn that is added.

    The time to add a turn depends only on the turn's new messages.
    """

    def __init__(self) -> None:
        self._graph = Graph()
        self._of: dict[str, _Found] = {}
        """Conversation of each turn, by the turn's id."""
        self._unnamed: list[_Unnamed] = []
        self._asked: dict[int, _Found] = {}
        """For each node of the graph: the conversation of the latest call whose messages this node represents."""
        self._unanswered: dict[int, _Found] = {}
        """For each node of the graph whose latest call got no answer: conversation of that call."""
        self._summaries = _Summaries()
        self._growing: dict[str, _Unnamed] = {}
        """Conversations that the agent has not named, and whose latest call ends with a message of the user. The latest
        conversation comes last. After the first call with tools, the dict is not used."""
        self._going_on: _Unnamed | None = None
        """Conversation of the latest call with tools."""
        self._last: _Found | None = None
        """Conversation of the latest turn."""
        self._questions: dict[Hashable, tuple[str, ...]] = {}
        """The user's texts in the first calls of the latest conversations with tools."""
        self._count = 0
        self._has_tools = False
        self._has_main = False
        """True if the agent has named a main conversation."""

    def __len__(self) -> int:
        return self._count

    @property
    def parents(self) -> dict[str, str | None]:
        """Dict from the id of each turn to the id of the turn that it continues; None if it continues no turn."""
        return self._graph.parents

    def add(self, turn: Turn) -> Place:
        """Add a turn, and return its `Place`."""
        node = self._graph.nodes.end_of(turn.request.messages)
        found = self._of[turn.id] = self._find(turn, node)
        self._graph.add(turn, node)
        parent = self.parents[turn.id]
        summary: str | None = None
        """Id of the turn from whose summary this turn restarts; None if the turn continues another turn or uses no
        summary."""
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
        found = self._of[turn_id]
        return found if isinstance(found, Conversation) else self._name(self._unnamed, None)[found.id]

    def all(self) -> dict[str, Conversation]:
        """Return the conversation of each turn that was added, by the turn's id."""
        named = self._name(self._unnamed, None)
        return {id_: named[each.id] if isinstance(each, _Unnamed) else each for id_, each in self._of.items()}

    def of_call(self, turn: Turn) -> Conversation:
        """Return the conversation of `turn`, which represents a call without an outcome. `turn` is not added."""
        found = self._find(turn, self._graph.nodes.end_of(turn.request.messages))
        if not isinstance(found, _Unnamed):
            return found
        unnamed = self._unnamed if found.id != turn.id else [*self._unnamed, found]
        return self._name(unnamed, (found, _has_tools(turn)))[found.id]

    def parent_of_call(self, turn: Turn) -> str | None:
        """Return the id of the turn that `turn` continues; None if it continues no turn.

        `turn` represents a call without an outcome. The turn is not added to the conversations.
        """
        return self._graph.continued(self._graph.nodes.end_of(turn.request.messages))

    def _name(
        self, unnamed: Iterable[_Unnamed], asking: tuple[_Unnamed, bool] | None
    ) -> dict[str, Conversation]:
        """Return a dict from the id of each conversation in `unnamed` to the `Conversation`, with its kind.

        For a call that is not added yet, `asking` is a pair: the call's conversation, and True if the call has tools.
        """
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
        """Return the conversation of a call, by the rules in the docstring of this module.

        `node` is the node of the call's messages.
        """
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
        """Return the conversation that `turn` continues by rule 5, or None.

        By this rule, the messages of `turn` are those of the conversation's latest call, with text added to the last
        message.
        """
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
        """Return the conversation that `turn` continues under another system prompt (rule 6), or None."""
        request = turn.request
        if _asks_for_summary(request):
            return None
        for each in reversed(self._unnamed[-_HANDED:]):
            answer = each.answer
            if (
                answer is not None
                and _agree(turn, each)
                and (request.tools or answer.tool_calls or not each.has_tools)  # else it is a side call
                and _is_handed_over(
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
        """Return the conversation that `turn` restarts from a summary (rule 7), or None.

        If the summary was requested by a side call, return the conversation of the latest call with tools.
        """
        for summary in self._summaries.found_in(turn.request):
            found: _Found | None = self._of[summary]
            if isinstance(found, _Unnamed) and turn.request.tools and not found.has_tools:
                found = self._going_on
            if isinstance(found, _Unnamed) and _agree(turn, found):
                return found
        return None


def _key(found: _Found) -> Hashable:
    """Return a key of a conversation: its id and, if the agent named the conversation, its kind.

    The kind is part of the key because some agents send the id of the main conversation with side calls, too.
    """
    return (found.id, found.kind) if isinstance(found, Conversation) else found.id


def _said_kind(turn: Turn) -> CallKind | None:
    return turn.conversation.kind if turn.conversation is not None else None


def _agree(turn: Turn, other: _Found) -> bool:
    """Return True if the conversation `other` may contain the call `turn`.

    The kinds of the two calls must be equal. If the families (`prompt_cache_key`) of both calls are known, they must be
    equal, too.
    """
    said = _said_kind(turn)
    if isinstance(other, Conversation):
        return other.kind != "tool" and said in (other.kind, None)
    mine, family = _family(turn.request), _family(other.latest)
    return said == other.said and (mine == family or mine is None or family is None)


def _is_aside(turn: Turn, other: _Unnamed) -> bool:
    return other.has_tools and is_side_call(turn.request)


def _family(request: Request) -> Json:
    return (request.extra or {}).get(_FAMILY)


def _has_tools(turn: Turn) -> bool:
    """Return True if a turn's call offers tools, and the agent sent the call, not a tool of the program."""
    return bool(turn.request.tools) and _said_kind(turn) != "tool"


def _question_of(request: Request) -> tuple[str, ...]:
    said = [
        part.text
        for message in request.messages
        if message.role == "user"
        for part in message.content
        if isinstance(part, Text) and part.text.strip()
    ]
    return tuple(said[-_QUESTION:])


def _is_grown(new: str, old: str) -> bool:
    """Return True if `new` is `old` with text inserted at one place."""
    more, middle = len(new) - len(old), len(old) // 2
    if more <= 0:
        return False
    near = max(0, middle - _NEAR)
    if not new.startswith(old[near:middle], near) and not new.startswith(
        old[middle : middle + _NEAR], middle + more
    ):
        return False  # an insertion before or behind the middle leaves one of the two sides unmoved
    low, high = 0, len(old)
    while low < high:  # find where the texts part
        middle = (low + high + 1) // 2
        low, high = (middle, high) if new.startswith(old[:middle]) else (low, middle - 1)
    return new.endswith(old[low:])


def _asks_for_summary(request: Request) -> bool:
    return not request.tools and request.last is not None and bool(_ASKED.search(request.last.text))


def _gives_summary(response: Response | None) -> bool:
    return response is not None and bool(_MARKED.search(response.text))


class _Summaries:
    """The latest answers that could be summaries. Only calls that continue no turn are searched for these summaries."""

    def __init__(self) -> None:
        self._kept: deque[_Said] = deque(maxlen=_SUMMARIES)

    def add(self, turn: Turn) -> None:
        response = turn.response
        if response is not None and turn.outcome == "answered" and not response.tool_calls:
            self._kept.append(_Said(turn, response))

    def found_in(self, request: Request) -> Iterator[str]:
        """Yield the ids of the turns whose answer is a summary that `request` contains, the latest first."""
        if not self._kept:
            return
        texts = [message.text for message in request.messages]
        for said in reversed(self._kept):
            if said.summary and _stands_in(said.summary, texts) and not _stands_in(said.question, texts):
                yield said.turn


class _Said:
    """An answer that consists only of text, and that could be a summary."""

    def __init__(self, turn: Turn, response: Response) -> None:
        self.turn = turn.id
        self._last = turn.request.last
        self._response = response

    @cached_property
    def question(self) -> str:
        return self._last.text if self._last is not None else ""

    @cached_property
    def summary(self) -> str:
        """The text that a later call contains if it restarts from this answer; empty if the answer is not a summary."""
        text = self._response.text
        if marked := _MARKED.search(text):
            return marked[2].strip()
        return text.strip() if _ASKED.search(self.question) else ""


def _stands_in(text: str, texts: list[str]) -> bool:
    return bool(text) and any(text in each for each in texts)


def _is_handed_over(
    request: Request, latest: Request, answer: Response, *, question: Iterable[str], follows: bool
) -> bool:
    """Return True if a request continues a conversation under another system prompt.

    Args:
        request: the first request under the other system prompt.
        latest: the latest request of the conversation.
        answer: the answer to `latest`.
        question: the texts of the user in the conversation's first request. If the whole history is nested in one
            message, this message contains these texts unchanged or encoded as JSON.
        follows: True if no other turn of the rollout is between `latest` and `request`.
    """
    messages, before = _without_system(request.messages), _without_system(latest.messages)
    names = [call.name for call in answer.tool_calls]
    given = Message("assistant", tuple(answer.content))
    if 0 < len(before) < len(messages) and all(map(_is_same, before, messages)):
        behind = messages[len(before) :]
        if said := tuple(takewhile(lambda message: message.role == "assistant", behind)):
            return _is_same(join_messages(said), given)
        text = "\n".join(message.text for message in behind)
        return bool(names) and all(name in text for name in names)
    if not (messages and names):
        return False
    if messages[0].role == "assistant":
        text = messages[0].text
        asked = [each in text or msgspec.json.encode(each)[1:-1].decode() in text for each in question]
        return all(name in text for name in names) and bool(asked) and all(asked)
    if not follows or not all(name.startswith(_TRANSFER) for name in names):
        return False
    if any(message.tool_calls or message.tool_results for message in messages):
        return False
    return _without_tools(messages) == _without_tools((*before, given))


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(dropwhile(lambda message: message.role in ("system", "developer"), messages))


def _is_same(one: Message, other: Message) -> bool:
    return one is other or message_key(one) == message_key(other)


def _without_tools(messages: tuple[Message, ...]) -> list[bytes]:
    """Return the keys (see `message_key`) of the messages without tool calls, tool results and reasoning."""
    kept = [
        Message(message.role, content, message.name)
        for message in messages
        if (content := tuple(part for part in message.content if not isinstance(part, _FILTERED)))
    ]
    keys: list[bytes] = []
    for role, group in groupby(kept, key=lambda message: message.role):
        same = list(group)
        keys += map(message_key, [join_messages(same)] if role == "assistant" else same)
    return keys
