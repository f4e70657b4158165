"""A trace as stretches of conversation that can be told one after the other: what linear formats want.

Rules:

1. The calls of one conversation of one kind are a segment, in the order in which they settled. A compaction ends one,
   and begins the next.
2. A compaction is a call that continues no other, and whose first messages repeat an earlier answer of its
   conversation: the summary.
3. A sub-agent was begun by the call whose argument is its first message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from .._canonical.content import Json, Message, ToolCall
from .._canonical.head import same_head
from .._trace.conversation import Conversation
from .._trace.message_key import joined, message_key
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects import decode_json
from ..errors import DialectError
from ._chat import answer_of

__all__ = ["Launch", "Segment", "new_messages", "segments_of"]

_SUMMARY = re.compile(r"<summary>(.*?)</summary>", re.DOTALL)
SHORTEST = 12
"""Characters: what is shorter stands in many messages by chance."""


@dataclass(frozen=True)
class Launch:
    """What began a sub-agent."""

    turn: Turn
    call: ToolCall


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Calls of one conversation, between two compactions."""

    conversation: Conversation
    turns: tuple[Turn, ...]
    summarised_by: Turn | None = None
    """The call whose answer is the summary that it begins with; None: it begins with no summary."""
    launch: Launch | None = None
    """Of a sub-agent's first segment, where that can be told."""


def segments_of(trace: Trace) -> list[Segment]:
    """All of a trace, in the order in which they began."""
    conversations, parents = trace.conversations, trace.parents
    members: dict[tuple[str, str], list[Turn]] = {}
    for turn in trace:
        told = conversations[turn.id]
        members.setdefault((told.id, told.kind), []).append(turn)
    segments: list[Segment] = []
    for turns in members.values():
        conversation = conversations[turns[0].id]
        launch = _launch_of(turns[0], trace) if conversation.kind == "sub_agent" else None
        for summary, some in _cut(turns, parents):
            segments.append(
                Segment(conversation=conversation, turns=some, summarised_by=summary, launch=launch)
            )
            launch = None
    return sorted(segments, key=lambda segment: segment.turns[0].number)


def _cut(turns: Sequence[Turn], parents: dict[str, str | None]) -> list[tuple[Turn | None, tuple[Turn, ...]]]:
    """The turns of a conversation, cut at its compactions."""
    found: list[tuple[Turn | None, list[Turn]]] = []
    for number, turn in enumerate(turns):
        summary = _summary_of(turn, turns[:number]) if parents[turn.id] is None else None
        if not found or summary is not None:
            found.append((summary, []))
        found[-1][1].append(turn)
    return [(summary, tuple(some)) for summary, some in found]


def _summary_of(turn: Turn, earlier: Sequence[Turn]) -> Turn | None:
    """The turn whose answer this one begins with, as a summary."""
    told = "\n".join(message.text for message in turn.request.messages if message.role != "assistant")
    for each in reversed(earlier):
        text = each.response.text.strip() if each.response is not None else ""
        inner = _SUMMARY.search(text)
        words = (inner[1] if inner is not None else text).strip()
        if len(words) >= SHORTEST and words in told:
            return each
    return None


def _launch_of(first: Turn, trace: Trace) -> Launch | None:
    told = [message.text for message in first.request.messages if message.role == "user"]
    for turn in trace:
        if turn.number == first.number or turn.response is None:
            continue
        for call in turn.response.tool_calls:
            if any(words in text for words in _long_texts(call) for text in told):
                return Launch(turn, call)
    return None


def _long_texts(call: ToolCall) -> Iterable[str]:
    try:
        arguments: Json = decode_json(call.arguments)
    except DialectError:
        return []
    values = arguments.values() if isinstance(arguments, dict) else ()
    return [value for value in values if isinstance(value, str) and len(value) >= SHORTEST]


def new_messages(before: Turn | None, turn: Turn) -> tuple[Message, ...]:
    """What a call says that the call before it did not say, and was not answered."""
    messages = turn.request.messages
    if before is None:
        return messages
    answer = (
        (answer_of(before.response),) if before.response is not None and before.outcome == "answered" else ()
    )
    known = (*before.request.messages, *answer)
    at = same_head(messages, known)
    while at and messages[at - 1].role == "assistant":  # more of the model may stand behind it now
        at -= 1
    old, new = _runs(known[at:]), _runs(messages[at:])
    changes = SequenceMatcher(None, _keys(old), _keys(new), autojunk=False).get_opcodes()
    return tuple(
        message
        for kind, _, _, start, stop in changes
        if kind in ("insert", "replace")
        for run in new[start:stop]
        for message in run
    )


def _runs(messages: Iterable[Message]) -> list[tuple[Message, ...]]:
    """The messages, what the model says several times in a row as one."""
    found: list[tuple[Message, ...]] = []
    for message in messages:
        if found and message.role == "assistant" == found[-1][-1].role:
            found[-1] += (message,)
        else:
            found.append((message,))
    return found


def _keys(runs: Iterable[tuple[Message, ...]]) -> list[bytes]:
    return [message_key(run[0] if len(run) == 1 else joined(run)) for run in runs]
