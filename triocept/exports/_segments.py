"""Divide the conversations in a trace into segments, for export formats that cannot express branches.

A segment holds calls of one conversation and one kind (such as `main` or `sub_agent`), in the order in which they
ended. A compaction ends a segment, and begins the next segment. Two members of a segment are taken from
`trace.relations`: the tool call that started its sub-agent, and the turn whose answer is the summary at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from operator import is_not

from .._canonical.content import Message, ToolCall
from .._canonical.form import join_messages, message_key
from .._canonical.memory import common_head
from .._trace.conversation import Conversation
from .._trace.trace import Trace
from .._trace.turn import Turn
from ._chat import answer_of


@dataclass(frozen=True)
class Launch:
    """The tool call that started a sub-agent, and the turn whose answer contains this call."""

    turn: Turn
    call: ToolCall


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive model calls of one conversation, without a compaction between them.

    The first call of a segment is the first call of its conversation, or the first call after a compaction. The last
    call of a segment is the last call before the next compaction, or the last call of the conversation.
    """

    conversation: Conversation
    turns: tuple[Turn, ...]
    summarised_by: Turn | None = None
    """The turn whose answer is the summary at the beginning of this segment; None if the segment begins without a
    summary."""
    launch: Launch | None = None
    """The tool call that started the sub-agent; set only in the sub-agent's first segment. None if the call is unknown.
    """


def segments_of(trace: Trace) -> list[Segment]:
    """Return all segments of a trace, ordered by their first turn."""
    conversations, relations = trace.conversations, trace.relations
    by_id = {turn.id: turn for turn in trace}
    runs: list[list[Turn]] = []
    latest: dict[tuple[str, str], list[Turn]] = {}
    for turn in trace:
        key = (conversations[turn.id].id, conversations[turn.id].kind)
        if key not in latest or relations[turn.id].kind == "compaction":
            latest[key] = []
            runs.append(latest[key])
        latest[key].append(turn)
    segments: list[Segment] = []
    for turns in runs:
        relation, launch = relations[turns[0].id], None
        origin = by_id[relation.turn] if relation.turn is not None else None
        if (
            relation.kind == "sub_agent"
            and relation.call is not None
            and origin is not None
            and origin.response
        ):
            launch = Launch(origin, origin.response.tool_calls[relation.call])
        segments.append(
            Segment(
                conversation=conversations[turns[0].id],
                turns=tuple(turns),
                summarised_by=origin if relation.kind == "compaction" else None,
                launch=launch,
            )
        )
    return sorted(segments, key=lambda segment: segment.turns[0].number)


def new_messages(before: Turn | None, turn: Turn) -> tuple[Message, ...]:
    """Return the new messages in a turn's request, which are neither in the request nor in the answer of `before`."""
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
    """Group the messages. Adjacent messages of the model form one group; each other message forms its own group."""
    found: list[tuple[Message, ...]] = []
    for message in messages:
        if found and message.role == "assistant" == found[-1][-1].role:
            found[-1] += (message,)
        else:
            found.append((message,))
    return found


def _keys(runs: Iterable[tuple[Message, ...]]) -> list[bytes]:
    return [message_key(run[0] if len(run) == 1 else join_messages(run)) for run in runs]
