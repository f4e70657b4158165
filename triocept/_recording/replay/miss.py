"""The errors of a replay for a call without a recorded answer, and the difference between two calls, move by move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from ..._canonical.memory import common_head
from ..._trace.conversation import Conversation
from ...errors import ReplayMiss
from ..miss import cut, no_answer, not_recorded
from .matching import closest, common
from .moves import Key, Move
from .record import Record, Recorded

_MOST = 6
"""Maximum differing moves to show of either call."""
_LOOKED_AT = 200
"""Maximum moves to compare of either call after the first difference."""
_WHAT_TO_DO = (
    "If the agent, its prompt or its configuration has changed, record it again; match='nearest' goes by the turn that "
    "begins most alike, and then=handler (on the command line --script or --upstream) lets another handler "
    "answer what is new."
)
_KINDS = {
    "main": "main conversation",
    "sub_agent": "a sub-agent",
    "side": "a side call",
    "tool": "a tool's call",
}


def miss(record: Record, key: Key, conversation: Conversation, rollout: str) -> ReplayMiss:
    """Return the error of a call that no recorded turn equals."""
    asker, recording = _asker(conversation, rollout), f"the record of rollout {record.trace.rollout}"
    nearest = closest(
        key.moves, [each for each in record.turns if each.kind == conversation.kind] or record.turns
    )
    if nearest is None:
        return not_recorded(asker, recording, _WHAT_TO_DO)
    count = len(record.turns)
    which = "Its only turn" if count == 1 else f"The closest of its {count} turns"
    return not_recorded(
        asker,
        recording,
        _WHAT_TO_DO,
        which=f"{which} is {_place(nearest)}",
        closest=nearest.turn.id,
        shown=difference(nearest.key, key),
    )


def unending(record: Record, turn: Recorded, conversation: Conversation, rollout: str) -> ReplayMiss:
    """Return the error of a call from which the recorded agent disconnected, and this agent does not."""
    place = f"turn {_place(turn)} of rollout {record.trace.rollout}"
    return no_answer(_asker(conversation, rollout), place, _WHAT_TO_DO, turn.turn.id)


def _asker(conversation: Conversation, rollout: str) -> str:
    return f"rollout {rollout}, {_KINDS[conversation.kind]},"


def _place(turn: Recorded) -> str:
    return f"number {turn.number} ({turn.turn.id}, {_KINDS[turn.kind]})"


def difference(recorded: Key, live: Key) -> str:
    """Describe what differs between two calls, in a few lines: `-` is recorded, `+` live."""
    lines: list[str] = []
    if recorded.tools != live.tools:
        lines += _of_tools(recorded.tools, live.tools)
    same = common(recorded.moves, live.moves)
    if same:
        lines.append(f"  {same} moves the same")
    before, now = recorded.moves[same:][:_LOOKED_AT], live.moves[same:][:_LOOKED_AT]
    shown = [*_changes(before, now)]
    lines += [line for pair in shown[:_MOST] for line in pair]
    if len(shown) > _MOST:
        lines.append(f"… and {len(shown) - _MOST} more")
    return "\n".join(lines)


def _changes(before: Sequence[Move], now: Sequence[Move]) -> Iterator[list[str]]:
    """Yield the lines of each move that differs, was left out, or was added."""
    for _, start, end, first, last in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        old, new = list(before[start:end]), list(now[first:last])
        if old == new:
            continue
        while old and new and (old[0].role, old[0].kind) == (new[0].role, new[0].kind):
            yield [*_edited(old.pop(0), new.pop(0))]
        yield from ([_shown("-", move)] for move in old)
        yield from ([_shown("+", move)] for move in new)


def _of_tools(recorded: Sequence[str], live: Sequence[str]) -> Iterator[str]:
    for sign, names in (("-", set(recorded) - set(live)), ("+", set(live) - set(recorded))):
        if names:
            yield f"{sign} tools: {', '.join(sorted(names))}"


def _edited(before: Move, now: Move) -> Iterator[str]:
    """Yield two texts, each from a little before their first difference."""
    at = common_head(before.value, now.value)
    for sign, move in (("-", before), ("+", now)):
        yield f"{sign} {move.role} {move.kind}, from character {at}: {_line(move.value, at) or '(nothing)'}"


def _shown(sign: str, move: Move) -> str:
    return f"{sign} {move.role} {move.kind}: {_line(move.value, 0)}"


def _line(text: str, head: int) -> str:
    return " ".join(cut(text, head).split())
