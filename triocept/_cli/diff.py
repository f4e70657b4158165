"""`triocept diff FILE A B`: the difference between the calls of two turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import msgspec

from .._canonical.content import Json, Message
from .._trace.diff import Edit, MessageDiff, ToolsDiff, TurnDiff, common_head
from .._trace.texts import text_of
from .._trace.turn import Turn
from .page import Page, Piece
from .words import counted

_AROUND = 20
"""Characters to show before an edit, or before the first difference of two texts."""
_DEEPEST = 4
"""Maximum depth of nested objects that are compared field by field."""
_MARKS = {"added": ("+", "green"), "dropped": ("-", "red"), "edited": ("~", "yellow")}


def show_diff(page: Page, diff: TurnDiff, before: Turn, after: Turn) -> None:
    """Print all differences."""
    tools = "differ" if diff.tools else f"same ({diff.tools.count})"
    page.line(
        (f"turn {before.number} → {after.number}", "bold"),
        f": {len(before.request.messages)} → {counted(len(after.request.messages), 'message', 'messages')}",
        f", tools {tools}, settings {'differ' if diff.settings else 'same'}",
    )
    for kind, group in groupby(diff.messages, key=_group):
        if kind == "same":
            page.line(*_same(list(group)))
        else:
            for each in sorted(group, key=lambda each: each.kind == "added"):
                page.line(*_changed(each))
    for line in _tool_lines(diff.tools):
        page.line(*line)
    for path, pair in diff.settings.items():
        for name, old, new in _fields(path, *pair):
            if page.width is not None:
                old, new = _from_where_they_part(old, new)
            page.line(("~ ", "yellow"), f"{name}: {_json(old)} → {_json(new)}")


def _group(each: MessageDiff) -> str:
    """Return the key by which messages are grouped: dropped messages come before added ones."""
    return "replaced" if each.kind in ("dropped", "added") else each.kind


def _same(group: list[MessageDiff]) -> Iterator[Piece]:
    first, last = group[0], group[-1]
    places = f"{first.before}" if first is last else f"{first.before}-{last.before}"
    moved = "" if first.before == first.after else f", now from {first.after}"
    yield (f"  {counted(len(group), 'message', 'messages')} the same ({places}{moved})", "dim")


def _changed(each: MessageDiff) -> Iterator[Piece]:
    mark, style = _MARKS[each.kind]
    message, place = (each.new, each.after) if each.new is not None else (each.old, each.before)
    assert isinstance(message, Message)
    yield (f"{mark} {place:>3} {message.role:<10}", style)
    if each.edit is not None and each.old is not None:
        yield from _edit(each.edit, text_of(each.old), text_of(message))
    else:
        yield f"{len(text_of(message)):>8,}  {text_of(message)}"


def _edit(edit: Edit, old: str, new: str) -> Iterator[Piece]:
    yield f"{len(new):>8,}  "
    if edit.at == "elsewhere":
        yield "edited, not in its text"
        return
    where = {"start": "at its start", "end": "at its end", "middle": f"at character {edit.place:,}"}[edit.at]
    yield f"edited, {edit.growth:+,} {where}: "
    yield old[max(0, edit.place - _AROUND) : edit.place]
    yield (f"[-{edit.removed}-]" if edit.removed else "", "red")
    yield (f"[+{edit.added}+]" if edit.added else "", "green")


def _tool_lines(tools: ToolsDiff) -> Iterator[tuple[Piece, ...]]:
    for kind, names in (("added", tools.added), ("dropped", tools.dropped), ("edited", tools.edited)):
        if names:
            mark, style = _MARKS[kind]
            yield (f"{mark} ", style), f"{counted(len(names), 'tool', 'tools')} {kind}: {', '.join(names)}"
    if tools.reordered:
        yield ("~ ", "yellow"), "the tools stand in another order"


def _fields(name: str, old: Json, new: Json, depth: int = 0) -> Iterator[tuple[str, Json, Json]]:
    """Yield the differences of a setting: of two objects, the differing fields."""
    inner: list[tuple[str, Json, Json]] = []
    if isinstance(old, dict) and isinstance(new, dict) and depth < _DEEPEST:
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                inner.extend(_fields(f"{name}.{key}", old.get(key), new.get(key), depth + 1))
    yield from inner or [(name, old, new)]


def _from_where_they_part(old: Json, new: Json) -> tuple[Json, Json]:
    """Return the differing ends of two long texts, with a little context, since a line has limited width."""
    if isinstance(old, str) and isinstance(new, str):
        start = common_head(old, new) - _AROUND
        if start > 0:
            return f"…{old[start:]}", f"…{new[start:]}"
    return old, new


def _json(value: Json) -> str:
    return "-" if value is None else msgspec.json.encode(value).decode()
