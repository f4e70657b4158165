"""Calls and their results: which belongs to which, on a wire where ids are optional; and where results stand.

Rules:

1. A call without an id gets one that is the same whenever the same conversation comes
   again; it begins with `MADE`, and is never written to a provider of the same dialect.
2. A result belongs to the call of its id; else to the oldest unanswered call of its name. A call is answered, whichever
   of them said so.
3. Where each result is a message of its own, it stands right behind its call; what else its turn holds, and what it
   shows, comes after all of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from operator import is_

import msgspec

from .._canonical.content import Json, Message, Part, ToolCall, ToolResult
from ._documents import merged

MADE = "triocept_call_"
_IN_PAIRS = frozenset({ToolCall, ToolResult})


def in_pairs(message: Message) -> bool:
    """Whether it has calls or results. Most have none."""
    return not _IN_PAIRS.isdisjoint(map(type, message.content))


class Pairing:
    """Takes the calls and results of one conversation in their order, gives them with ids.

    Args:
        kept: what a result has beside, that has another id than its call: it is written again.
    """

    def __init__(self, kept: Callable[[str], dict[str, Json]]) -> None:
        self._kept = kept
        self._made = 0
        self._known: dict[str, str] = {}
        """By the id of a call, the name of its tool."""
        self._waiting: dict[str, _Waiting] = {}
        """By the name of their tool."""

    def pair(self, message: Message) -> Message:
        """The message, whose calls and results have ids; the very one, if they all had."""
        if not in_pairs(message):
            return message
        paired: list[Part] = []
        for part in message.content:
            match part:
                case ToolCall():
                    paired.append(self.call(part))
                case ToolResult():
                    paired.append(self.result(part))
                case _:
                    paired.append(part)
        if all(map(is_, paired, message.content)):
            return message
        return msgspec.structs.replace(message, content=tuple(paired))

    def call(self, call: ToolCall) -> ToolCall:
        """The call, with an id."""
        identity = call.id or self._new_id()
        self._known[identity] = call.name
        self._waiting.setdefault(call.name, _Waiting()).add(identity)
        return call if call.id else msgspec.structs.replace(call, id=identity)

    def result(self, result: ToolResult) -> ToolResult:
        """The result, with the id of its call."""
        waiting = self._waiting.get(result.name or "")
        if result.id in self._known:  # it need not say its name, nor say it rightly
            if waiting is None or not waiting.discard(result.id):
                self._waiting[self._known[result.id]].discard(result.id)
            return result
        oldest = waiting.oldest if waiting is not None else None
        if waiting is not None and oldest is not None and (not result.id or oldest.startswith(MADE)):
            waiting.discard(oldest)
            extra = result.extra
            if result.id:  # an id that only the result has: it is written again
                extra = merged(extra or {}, self._kept(result.id))
            return msgspec.structs.replace(result, id=oldest, extra=extra)
        return result if result.id else msgspec.structs.replace(result, id=self._new_id())

    def _new_id(self) -> str:
        self._made += 1
        return f"{MADE}{self._made}"


class _Waiting:
    """The ids of calls that have no result yet, in their order. Each takes the same time, in whatever order they go."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque()
        self._gone: Counter[str] = Counter()
        """How many of an id are answered, and still in the queue."""
        self._left: Counter[str] = Counter()

    def add(self, identity: str) -> None:
        self._ids.append(identity)
        self._left[identity] += 1

    def discard(self, identity: str) -> bool:
        """The oldest of this id is answered; whether there is one."""
        if not self._left[identity]:
            return False
        self._left[identity] -= 1
        self._gone[identity] += 1
        return True

    @property
    def oldest(self) -> str | None:
        """The id of the call that has waited longest; None: none waits."""
        while self._ids and self._gone[self._ids[0]]:
            self._gone[self._ids.popleft()] -= 1
        return self._ids[0] if self._ids else None


def results_first(
    messages: Iterable[Message], shown: Callable[[ToolResult], Iterable[Part]] | None
) -> Iterator[tuple[Message, ToolResult | list[Part]]]:
    """The wire messages of a conversation: of each the message that it says something of, and what that is, a result or
    other parts.

    Args:
        messages: the conversation.
        shown: what of a result has no place in one, and is said behind it, by the user; None: nothing.
    """
    waiting: list[Part] = []
    for message in messages:
        for result in message.tool_results:
            yield message, result
            waiting += shown(result) if shown is not None else ()
        rest = [part for part in message.content if not isinstance(part, ToolResult)]
        if message.tool_results and not rest:
            continue
        if waiting and message.role not in ("user", "tool"):
            yield Message("user"), waiting
            waiting = []
        yield message, [*waiting, *rest]
        waiting = []
    if waiting:
        yield Message("user"), waiting
