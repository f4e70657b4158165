"""Which turn continues which: derived from the messages, never recorded.

Rules:

1. A turn continues another if its conversation begins with the other's conversation and answer (see `message_key` for
   when messages are the same). Of several it is the one that says most; of equals the latest.
2. What was said of an answer that broke is an answer too, alone and with what was said when it was asked again: some
   agents keep it (kimi-code, Continue, open-interpreter).
3. Where an answer stands in other words (smolagents tells its calls again as text; others trim) it is continued all
   the same: the conversation begins with the other's, has an answer there, and goes on.
4. Each distinct message is hashed once, and what stood in one of the last conversations is not looked at again. An
   answer that the agent sends back as it was is not hashed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from .._canonical.content import Message, Opaque, Part, ToolResult
from .._canonical.form import join_messages, message_key
from .recent import Recent

if TYPE_CHECKING:
    from .turn import Turn

ROOT = 0
"""The node before the first message."""
_BROKEN = 8
"""How many broken answers to one question are kept to be joined: more than any agent tries while it shows them."""


class _Answer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    turn: str
    whole: bool


class Graph:
    """The turns so far, and which of them continues which.

    A node stands for the messages up to there: equal conversations end in the same one.
    """

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        """For each turn's id, that of the turn it continues; None begins a thread of its own."""
        self.nodes = _Nodes()
        self._ends: dict[int, _Answer] = {}
        """By the node in which a conversation and its answer end."""
        self._asked: dict[int, _Answer] = {}
        """By the node in which a conversation ends that got an answer."""
        self._broken: dict[int, list[Message]] = {}
        """By the same, what was said there in answers that broke."""

    def add(self, turn: Turn, node: int) -> None:
        """One more turn, whose conversation ends in this node."""
        messages = turn.request.messages
        self.parents[turn.id] = self.continued(node)
        if turn.response is not None:
            whole = turn.outcome == "answered"
            answer = Message("assistant", tuple(turn.response.content))
            if whole or turn.response.content:
                self._add_answer(_Answer(turn=turn.id, whole=whole), node, messages, answer)

    def continued(self, node: int) -> str | None:
        """The id of the turn that a call whose conversation ends here continues."""
        behind = last = ROOT
        for at in self.nodes.upwards(node):
            if (end := self._ends.get(at)) is not None:
                return end.turn
            retold = last != ROOT and self.nodes.is_answer[behind]
            if retold and (asked := self._asked.get(at)) is not None:
                return asked.turn
            last, behind = behind, at
        return None

    def _add_answer(self, mine: _Answer, node: int, messages: tuple[Message, ...], answer: Message) -> None:
        broken = self._broken.pop(node, []) if mine.whole else self._broken.setdefault(node, [])
        for number in range(len(broken) + 1):
            end = self.nodes.end_of_answer(node, messages, (*broken[number:], answer))
            _put(self._ends, end, mine)
        _put(self._asked, node, mine)
        if not mine.whole:
            broken.append(answer)
            del broken[:-_BROKEN]


def _put(answers: dict[int, _Answer], node: int, mine: _Answer) -> None:
    """The latest counts, but a broken one for less than a whole one."""
    if mine.whole or node not in answers or not answers[node].whole:
        answers[node] = mine


class _Nodes:
    """The tree of all conversations, a message each step; what the model says several times in a row is one."""

    def __init__(self) -> None:
        self.is_answer = [False]
        """By node: whether its last message is the model's."""
        self._before = [ROOT]
        self._steps: dict[tuple[int, int], int] = {}
        """By a node and the number of a message key: the node behind."""
        self._numbers: dict[bytes, int] = {}
        """Of message keys."""
        self._known: dict[int, tuple[Message, int]] = {}
        """By a message's `id` (the object is kept, so that it stays its own): the number of its key."""
        self._runs: dict[tuple[int, ...], int] = {}
        """By the numbers of several answers in a row: that of the key of all."""
        self._said: dict[int, tuple[tuple[Part, ...], int]] = {}
        """By node: what was answered there last, and the number of its key."""
        self._recent: Recent[int] = Recent()
        """What is known of each message is its node."""

    def upwards(self, node: int) -> Iterator[int]:
        """This node and those before it, but for the root."""
        while node != ROOT:
            yield node
            node = self._before[node]

    def before(self, node: int) -> int:
        """The node before this one; of the root, the root."""
        return self._before[node]

    def end_of(self, messages: tuple[Message, ...]) -> int:
        """The node in which a conversation ends."""
        path = self._recent.go_on(messages).known
        # More of the model may stand behind it now.
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
        """The node in which this conversation, which ends in `node`, ends with these answers behind it."""
        if self.is_answer[node]:  # they go on with what stands there
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
        """The number of what the model says here, in one message or several."""
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
        if known is None or known[0] is not message:  # an id of before a copy was made, or a pickle
            if _has_opaque(message):
                self._recent.tell_apart()
            known = self._known[id(message)] = (message, self._number(message_key(message)))
        return known[1]

    def _number(self, key: bytes) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _has_opaque(message: Message) -> bool:
    """Whether something in it may differ though Python holds it for equal: `true` and `1` in what nobody reads."""
    for part in message.content:
        if type(part) is Opaque:
            return True
        if type(part) is ToolResult and Opaque in map(type, part.content):
            return True
    return False
