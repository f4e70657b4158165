"""A trace as segments of conversation, each of them linear, for linear formats.

A segment holds the calls of one conversation of one kind, in the order in which they settled. A compaction ends a
segment and begins the next. `trace.relations` gives the origin of a sub-agent, and the answer a compaction continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from operator import is_not

from .._canonical.content import Message, ToolCall
from .._canonical.form import join_messages, message_key
from .._canonical.memory import common_head
from .._trace.conversation import Conversation
from .._trace.relation import Relation
from .._trace.trace import Trace
from .._trace.turn import Turn
from ._chat import answer_of


@dataclass(frozen=True)
class Launch:
    """The origin of a sub-agent."""

    turn: Turn
    call: ToolCall


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Calls of one conversation, between two compactions."""

    conversation: Conversation
    turns: tuple[Turn, ...]
    summarised_by: Turn | None = None
    """The call whose answer is the summary at the beginning; None: there is no summary."""
    launch: Launch | None = None
    """Origin of a sub-agent, on its first segment, if known."""


def segments_of(trace: Trace) -> list[Segment]:
    """Return all segments of a trace, in the order in which they began."""
    conversations, relations = trace.conversations, trace.relations
    by_id = {turn.id: turn for turn in trace}
    members: dict[tuple[str, str], list[Turn]] = {}
    for turn in trace:
        told = conversations[turn.id]
        members.setdefault((told.id, told.kind), []).append(turn)
    segments: list[Segment] = []
    for turns in members.values():
        for some in _cut(turns, relations):
            first = relations[some[0].id]
            other = by_id[first.turn] if first.turn is not None else None
            segments.append(
                Segment(
                    conversation=conversations[some[0].id],
                    turns=tuple(some),
                    summarised_by=other if first.kind == "compaction" else None,
                    launch=_launch(first, other),
                )
            )
    return sorted(segments, key=lambda segment: segment.turns[0].number)


def _cut(turns: Sequence[Turn], relations: dict[str, Relation]) -> Iterator[list[Turn]]:
    """Yield the turns of a conversation, cut at its compactions."""
    some: list[Turn] = []
    for turn in turns:
        if some and relations[turn.id].kind == "compaction":
            yield some
            some = []
        some.append(turn)
    yield some


def _launch(relation: Relation, other: Turn | None) -> Launch | None:
    if relation.kind != "sub_agent" or relation.call is None or other is None or other.response is None:
        return None
    return Launch(other, other.response.tool_calls[relation.call])


def new_messages(before: Turn | None, turn: Turn) -> tuple[Message, ...]:
    """Return the messages of a call that are neither in the previous call nor its answer."""
    messages = turn.request.messages
    if before is None:
        return messages
    answer = (
        (answer_of(before.response),) if before.response is not None and before.outcome == "answered" else ()
    )
    known = (*before.request.messages, *answer)
    at = common_head(messages, known, is_not)
    while at and messages[at - 1].role == "assistant":  # further messages of the model may follow by now
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
    """Return the messages, with adjacent messages of the model as one run."""
    found: list[tuple[Message, ...]] = []
    for message in messages:
        if found and message.role == "assistant" == found[-1][-1].role:
            found[-1] += (message,)
        else:
            found.append((message,))
    return found


def _keys(runs: Iterable[tuple[Message, ...]]) -> list[bytes]:
    return [message_key(run[0] if len(run) == 1 else join_messages(run)) for run in runs]
