"""Pairing of calls and results on a wire with optional ids, and the position of results among messages.

Rules:

1. A call without an id gets one that is stable across requests of one conversation; it begins with `MADE`, and is
   never written to a provider of the same dialect.
2. A result belongs to the call with its id; else to the oldest unanswered call of its tool name. A result counts as
   the answer in either case.
3. If each result is a message of its own, it comes right after its call; other parts of its turn, and its media, come
   after all results.
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
    """Return True if the message has calls or results. Most messages have neither."""
    return not _IN_PAIRS.isdisjoint(map(type, message.content))


class Pairing:
    """A pass over one conversation that adds ids to calls and results, in their order.

    Args:
        kept: function that returns the `extra` of a result whose id differs from that of its call, to be written
            again.
    """

    def __init__(self, kept: Callable[[str], dict[str, Json]]) -> None:
        self._kept = kept
        self._made = 0
        self._known: dict[str, str] = {}
        """The name of the tool, by the id of a call."""
        self._waiting: dict[str, _Waiting] = {}
        """The unanswered calls, by the name of their tool."""

    def pair(self, message: Message) -> Message:
        """Return the message with ids for its calls and results; the same object if all of them had ids."""
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
        """Return the call with an id."""
        identity = call.id or self._new_id()
        self._known[identity] = call.name
        self._waiting.setdefault(call.name, _Waiting()).add(identity)
        return call if call.id else msgspec.structs.replace(call, id=identity)

    def result(self, result: ToolResult) -> ToolResult:
        """Return the result with the id of its call."""
        waiting = self._waiting.get(result.name or "")
        if result.id in self._known:  # the tool name of such a result may be missing or wrong
            if waiting is None or not waiting.discard(result.id):
                self._waiting[self._known[result.id]].discard(result.id)
            return result
        oldest = waiting.oldest if waiting is not None else None
        if waiting is not None and oldest is not None and (not result.id or oldest.startswith(MADE)):
            waiting.discard(oldest)
            extra = result.extra
            if result.id:  # an id that only the result has is written again
                extra = merged(extra or {}, self._kept(result.id))
            return msgspec.structs.replace(result, id=oldest, extra=extra)
        return result if result.id else msgspec.structs.replace(result, id=self._new_id())

    def _new_id(self) -> str:
        self._made += 1
        return f"{MADE}{self._made}"


class _Waiting:
    """The ids of calls without a result, in their order; each operation takes constant time."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque()
        self._gone: Counter[str] = Counter()
        """The number of answered calls per id that are still in the queue."""
        self._left: Counter[str] = Counter()

    def add(self, identity: str) -> None:
        self._ids.append(identity)
        self._left[identity] += 1

    def discard(self, identity: str) -> bool:
        """Mark the oldest call with this id as answered; return False if no such call waits."""
        if not self._left[identity]:
            return False
        self._left[identity] -= 1
        self._gone[identity] += 1
        return True

    @property
    def oldest(self) -> str | None:
        """The id of the call that has waited longest; None if no call waits."""
        while self._ids and self._gone[self._ids[0]]:
            self._gone[self._ids.popleft()] -= 1
        return self._ids[0] if self._ids else None


def results_first(
    messages: Iterable[Message], shown: Callable[[ToolResult], Iterable[Part]] | None
) -> Iterator[tuple[Message, ToolResult | list[Part]]]:
    """Yield each wire message of a conversation: its canonical message, and its content (a result, or other parts).

    Args:
        messages: the conversation.
        shown: function that returns the parts of a result that the wire cannot hold in a result. They follow in a user
            message. None: no parts.
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
