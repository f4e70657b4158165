"""Two calls side by side, for a person: where they part, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from ..._canonical.memory import common_head
from .matching import common
from .moves import Move
from .record import Key

_WIDTH = 160
_CONTEXT = 40
_MOST = 6
"""Differing moves of either call that are shown."""
_LOOKED_AT = 200
"""Moves of either call that are compared behind the first that differs."""


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
    """Two texts, from a little before where they part."""
    at = common_head(before.value, now.value)
    start = max(0, at - _CONTEXT)
    for sign, move in (("-", before), ("+", now)):
        shown = ("…" if start else "") + move.value[start : start + 4 * _WIDTH]
        yield f"{sign} {move.role} {move.kind}, from character {at}: {_short(shown) or '(nothing)'}"


def _shown(sign: str, move: Move) -> str:
    return f"{sign} {move.role} {move.kind}: {_short(move.value)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[:_WIDTH] + "…"
