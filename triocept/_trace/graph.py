"""Find, for each turn, the earlier turn that it continues.

Turns, and the turns that they continue, form a graph. It is derived from the messages, and never recorded.

Rules:

1. A turn continues an earlier turn if its messages begin with the earlier turn's messages and answer (`message_key`
   defines equal messages). If several earlier turns fit, the turn continues the earlier turn with the most messages; if
   several of these have equally many messages, the latest.
2. The content of a broken answer counts as an answer, both alone and joined with the content of its retries, because
   some agents keep this content in their history (kimi-code, Continue, open-interpreter).
3. A turn is also continued if the agent has reworded the turn's answer (smolagents repeats its calls as text; other
   agents trim answers). In this case, the later messages begin with the turn's messages, then a message of the model
   with any content, then at least one more message.
4. Each distinct message is hashed once. Messages that are already in one of the latest conversations are not compared
   again, and an answer that the agent sends back unchanged is not hashed again.

`Recent` finds the conversation that a new call continues. An agent sends its whole conversation again with every call.
Calls of several conversations (of sub-agents, for example) alternate, so `Recent` keeps a few of the latest
conversations. The messages that a new call shares with the latest call of its conversation are compared in C, in a few
nanoseconds for each message.

`Recent` compares messages with Python's `==`, for which `true` equals `1`. Code that must distinguish `true` from `1`
calls `tell_apart`. From then on, messages are compared by object identity, so only messages that a trace has interned
are recognized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import is_not
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from .._canonical.content import Message, Opaque, Part, ToolResult
from .._canonical.form import join_messages, message_key
from .._canonical.memory import common_head

if TYPE_CHECKING:
    from .turn import Turn

T = TypeVar("T")

_KEPT = 8
"""Maximum conversations in memory. Agents usually alternate between fewer conversations, and more would only cost time.
"""
_CHANGED = 4
"""Number of last messages that an agent may change while it continues a conversation: Claude Code moves its cache
mark."""


@dataclass(eq=False, slots=True)
class Sent(Generic[T]):
    """The messages of a conversation as the agent sent them last.

    `known` contains, for each message, the value that the caller of `Recent.go_on` has appended (for example a node).
    """

    messages: tuple[Message, ...]
    known: list[T]


class Recent(Generic[T]):
    """The latest conversations of an agent, at most eight. `go_on` finds the conversation that a new call continues."""

    def __init__(self) -> None:
        self._latest: list[Sent[T]] = []
        self._head: Callable[[tuple[Message, ...], tuple[Message, ...]], int] = _equal_head

    def tell_apart(self) -> None:
        """Compare messages by object identity from now on, because `==` does not distinguish `true` from `1`."""
        self._head = partial(common_head, differ=is_not)

    def go_on(self, messages: tuple[Message, ...]) -> Sent[T]:
        """Return the recent conversation that `messages` continue, or a new conversation.

        In the returned object, `known` contains the values of the first messages that a recent conversation also has.
        The caller must append the values of the other messages.
        """
        sent, head = None, 0
        for each in self._latest:
            common = self._head(messages, each.messages)
            if common > head:
                sent, head = each, common
            if common == len(each.messages) >= len(messages) - _CHANGED:
                break
        if sent is None or head < len(sent.messages) - _CHANGED:  # the call begins or leaves a conversation
            sent = Sent(messages, sent.known[:head] if sent is not None else [])
            del self._latest[_KEPT - 1 :]
        else:
            self._latest.remove(sent)
            del sent.known[head:]
            sent.messages = messages
        self._latest.insert(0, sent)
        return sent


def _equal_head(messages: tuple[Message, ...], sent: tuple[Message, ...]) -> int:
    """Return the number of equal messages at the beginning of both tuples.

    Identical objects count as equal without a comparison of their content.
    """
    common = min(len(messages), len(sent))
    for end in (common, common - _CHANGED):
        if end > 0 and messages[end - 1] == sent[end - 1] and messages[:end] == sent[:end]:
            return end + common_head(messages[end:], sent[end:], is_not)
    return common_head(messages, sent, is_not)


ROOT = 0
"""Node of an empty conversation, from which all other nodes descend."""
_BROKEN = 8
"""Maximum broken answers to one call that stay in memory, so that their joined content is recognized in later calls.
(Agents that join broken answers send fewer retries.)"""


class _Answer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    turn: str
    whole: bool


class Graph:
    """The graph of the turns that were added: for each turn, the turn that it continues.

    A node represents a sequence of messages: the messages of a conversation, from the first message to any later
    message. Equal sequences have the same node.
    """

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        """Dict from the id of each turn to the id of the turn that it continues; None if it continues no turn."""
        self.nodes = _Nodes()
        self._ends: dict[int, _Answer] = {}
        """For each node that represents the messages of a call, followed by its answer: the latest such answer."""
        self._asked: dict[int, _Answer] = {}
        """For each node with a call's messages: the latest answer to a call with these messages."""
        self._broken: dict[int, list[Message]] = {}
        """For each node with a call's messages: the broken answers to calls with these messages."""

    def add(self, turn: Turn, node: int) -> None:
        """Add a turn. `node` represents the messages of its request."""
        self.parents[turn.id] = self.continued(node)
        mine = _Answer(turn=turn.id, whole=turn.outcome == "answered")
        if turn.response is None or not (mine.whole or turn.response.content):
            return
        answer = Message("assistant", tuple(turn.response.content))
        broken = self._broken.pop(node, []) if mine.whole else self._broken.setdefault(node, [])
        for number in range(len(broken) + 1):
            end = self.nodes.end_of_answer(node, turn.request.messages, (*broken[number:], answer))
            _put(self._ends, end, mine)
        _put(self._asked, node, mine)
        if not mine.whole:
            broken.append(answer)
            del broken[:-_BROKEN]

    def continued(self, node: int) -> str | None:
        """Return the id of the turn that a call continues; None if it continues no turn.

        `node` represents the call's messages.
        """
        behind = last = ROOT
        for at in self.nodes.upwards(node):
            if (end := self._ends.get(at)) is not None:
                return end.turn
            retold = last != ROOT and self.nodes.is_answer[behind]
            if retold and (asked := self._asked.get(at)) is not None:
                return asked.turn
            last, behind = behind, at
        return None


def _put(answers: dict[int, _Answer], node: int, mine: _Answer) -> None:
    if mine.whole or node not in answers or not answers[node].whole:
        answers[node] = mine


class _Nodes:
    """The nodes of the graph: a tree of all conversations.

    Compared with its parent, each node has one further message, or several further messages that the model wrote in a
    row.
    """

    def __init__(self) -> None:
        self.is_answer = [False]
        """For each node: True if its last message is from the model."""
        self._before = [ROOT]
        self._steps: dict[tuple[int, int], int] = {}
        """For each child node: its number. The dict's key consists of the parent node and the number (see `_numbers`)
        of the message that the child adds."""
        self._numbers: dict[bytes, int] = {}
        """A number for each distinct message key (see `message_key`)."""
        self._known: dict[int, tuple[Message, int]] = {}
        """Number of the key of each message object, by Python's `id`. The dict keeps the message object alive, so that
        the object's `id` stays unique."""
        self._runs: dict[tuple[int, ...], int] = {}
        """For each sequence of the model's messages that is joined into one message: the number (see `_numbers`) of the
        joined message's key. The dict's key is the tuple of the single messages' numbers."""
        self._said: dict[int, tuple[tuple[Part, ...], int]] = {}
        """For each node: content of the latest answer to its messages, and the number of the answer's key."""
        self._recent: Recent[int] = Recent()
        """Recent conversations. The value for each message is its node."""

    def upwards(self, node: int) -> Iterator[int]:
        while node != ROOT:
            yield node
            node = self._before[node]

    def before(self, node: int) -> int:
        """Return the parent of this node; for the root, the root itself."""
        return self._before[node]

    def end_of(self, messages: tuple[Message, ...]) -> int:
        """Return the node that represents these messages. Nodes that do not exist yet are created."""
        path = self._recent.go_on(messages).known
        # Since the path was stored, more messages of the model may have been added below it.
        while path and messages[len(path) - 1].role == "assistant":
            path.pop()
        at = len(path)
        node = path[-1] if path else ROOT
        while at < len(messages):
            end = at + 1
            if is_answer := messages[at].role == "assistant":
                while end < len(messages) and messages[end].role == "assistant":
                    end += 1
            run = messages[at:end]
            number = self._number_said(node, run) if is_answer else self._number_of_one(run[0])
            node = self._step(node, number, is_answer)
            path += [node] * (end - at)
            at = end
        return node

    def end_of_answer(self, node: int, messages: tuple[Message, ...], answers: tuple[Message, ...]) -> int:
        """Return the node for `messages` followed by `answers`.

        `node` represents `messages` alone. The answers are joined into one message of the model.
        """
        if self.is_answer[node]:  # the answers continue the model's messages there
            node = self._before[node]
            start = len(messages)
            while start and messages[start - 1].role == "assistant":
                start -= 1
            answers = (*messages[start:], *answers)
        answer = join_messages(answers)
        number = self._number(message_key(answer))
        self._said[node] = (answer.content, number)
        return self._step(node, number, is_answer=True)

    def _step(self, node: int, number: int, is_answer: bool) -> int:
        found = self._steps.setdefault((node, number), len(self._before))
        if found == len(self._before):
            self._before.append(node)
            self.is_answer.append(is_answer)
        return found

    def _number_said(self, node: int, run: tuple[Message, ...]) -> int:
        """Join the messages `run` into one message, and return its number (see `_numbers`).

        The model wrote the messages `run` after the messages of `node`.
        """
        if len(run) > 1:
            numbers = tuple(map(self._number_of_one, run))
            if numbers not in self._runs:
                self._runs[numbers] = self._number(message_key(join_messages(run)))
            return self._runs[numbers]
        said = self._said.get(node)
        if said is not None and said[0] == run[0].content and not _has_opaque(run[0]):
            return said[1]
        return self._number_of_one(run[0])

    def _number_of_one(self, message: Message) -> int:
        known = self._known.get(id(message))
        if known is None or known[0] is not message:  # an id from before a copy was made, or a pickle
            if _has_opaque(message):
                self._recent.tell_apart()
            known = self._known[id(message)] = (message, self._number(message_key(message)))
        return known[1]

    def _number(self, key: bytes) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _has_opaque(message: Message) -> bool:
    """Return True if a message has opaque parts.

    The JSON of opaque parts may contain `true` or `1`, which differ but are equal by `==`.
    """
    return any(
        type(part) is Opaque or (type(part) is ToolResult and Opaque in map(type, part.content))
        for part in message.content
    )
