"""Two calls side by side, for a person: where they part, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._canonical.memory import common_head
from .matching import common
from .moves import Move
from .record import Key

__all__ = ["difference"]

_WIDTH = 160
_CONTEXT = 40
_MOST = 6
"""Moves of either call that are shown from where they part."""


def difference(recorded: Key, live: Key) -> str:
    """Where a live call parts from a recorded one, in a few lines: `-` is recorded, `+` live."""
    lines: list[str] = []
    if recorded.tools != live.tools:
        lines += _of_tools(recorded.tools, live.tools)
    same = common(recorded.moves, live.moves)
    if same:
        lines.append(f"  {same} moves the same")
    before, now = recorded.moves[same:], live.moves[same:]
    if before and now and (before[0].role, before[0].kind) == (now[0].role, now[0].kind):
        lines += _edited(before[0], now[0])
        before, now = before[1:], now[1:]
    lines += [*_shown("-", before), *_shown("+", now)]
    return "\n".join(lines)


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


def _shown(sign: str, moves: Sequence[Move]) -> Iterator[str]:
    for move in moves[:_MOST]:
        yield f"{sign} {move.role} {move.kind}: {_short(move.value)}"
    if len(moves) > _MOST:
        yield f"{sign} … and {len(moves) - _MOST} more"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[:_WIDTH] + "…"
