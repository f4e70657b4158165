"""What a replay says when its record does not have what it was asked."""

from __future__ import annotations

from ..._trace.conversation import Conversation
from ...errors import ReplayMiss
from .difference import difference
from .matching import closest
from .record import Key, Record, Recorded

_WHAT_TO_DO = (
    "If the agent, its prompt or its configuration has changed, record it again; match='nearest' goes by the turn that "
    "begins most alike, and then=handler (on the command line --script or --upstream) lets another handler "
    "answer what is new."
)


def miss(record: Record, key: Key, conversation: Conversation, rollout: str) -> ReplayMiss:
    """A call that the record does not have."""
    trace = record.trace
    asked = f"rollout {rollout}, {_named(conversation)}, asks what the record of rollout {trace.rollout} does not have"
    nearest = closest(
        key.moves, [each for each in record.turns if each.kind == conversation.kind] or record.turns
    )
    if nearest is None:
        return ReplayMiss(f"{asked}: it has no turn")
    shown = difference(nearest.key, key)
    which = "Its only turn" if len(trace) == 1 else f"The closest of its {len(trace)} turns"
    return ReplayMiss(
        f"{asked}. {which} is number {nearest.number} ({nearest.turn.id}, "
        f"{_named(nearest.conversation)}); - is recorded, + is asked:\n{shown}\n{_WHAT_TO_DO}",
        closest=nearest.turn.id,
        difference=shown,
    )


def unending(record: Record, turn: Recorded, rollout: str) -> ReplayMiss:
    """A call that the agent had hung up on, and does not now."""
    return ReplayMiss(
        f"rollout {rollout} waits for an answer that the record of rollout {record.trace.rollout} does not have: in "
        f"turn number {turn.number} ({turn.turn.id}) the agent hung up before it was answered. {_WHAT_TO_DO}",
        closest=turn.turn.id,
    )


def _named(conversation: Conversation) -> str:
    kind = {
        "main": "main conversation",
        "sub_agent": "a sub-agent",
        "side": "a side call",
        "tool": "a tool's call",
    }
    return kind[conversation.kind]
