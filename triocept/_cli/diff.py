"""`triocept diff FILE A B`: shows the differences between the calls of two turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import msgspec

from .._canonical.content import Json, Message
from .._trace.diff import MessageDiff, TurnDiff, common_head
from .._trace.texts import text_of
from .._trace.turn import Turn
from .page import Page, Piece
from .words import counted, decision_words, draft_words

_AROUND = 20
"""Number of equal characters to show before an edit, or before the first difference between two texts."""
_DEEPEST = 4
"""Maximum depth of nested objects that are compared field by field."""
_MARKS = {"added": ("+", "green"), "dropped": ("-", "red"), "edited": ("~", "yellow")}


def show_diff(page: Page, diff: TurnDiff, before: Turn, after: Turn) -> None:
    tools = "differ" if diff.tools else f"same ({diff.tools.count})"
    page.line(
        (f"turn {before.number} → {after.number}", "bold"),
        f": {len(before.request.messages)} → {counted(len(after.request.messages), 'message', 'messages')}",
        f", tools {tools}, settings {'differ' if diff.settings else 'same'}",
    )
    # dropped messages come before the added messages that replace them
    for kind, group in groupby(
        diff.messages, key=lambda each: "replaced" if each.kind in ("dropped", "added") else each.kind
    ):
        if kind == "same":
            same = list(group)
            first, last = same[0], same[-1]
            places = f"{first.before}" if first is last else f"{first.before}-{last.before}"
            moved = "" if first.before == first.after else f", now from {first.after}"
            page.line((f"  {counted(len(same), 'message', 'messages')} the same ({places}{moved})", "dim"))
        else:
            for each in sorted(group, key=lambda each: each.kind == "added"):
                page.line(*_changed(each))
    tools_by_kind = {"added": diff.tools.added, "dropped": diff.tools.dropped, "edited": diff.tools.edited}
    for change, names in tools_by_kind.items():
        if names:
            mark, style = _MARKS[change]
            named = f"{counted(len(names), 'tool', 'tools')} {change}: {', '.join(names)}"
            page.line((f"{mark} ", style), named)
    if diff.tools.reordered:
        page.line(("~ ", "yellow"), "the tools are in another order")
    for path, pair in diff.settings.items():
        for name, old, new in _fields(path, *pair):
            if page.width is not None and isinstance(old, str) and isinstance(new, str):
                start = common_head(old, new) - _AROUND  # the differing ends, since a line has limited width
                if start > 0:
                    old, new = f"…{old[start:]}", f"…{new[start:]}"
            page.line(("~ ", "yellow"), f"{name}: {_json(old)} → {_json(new)}")
    _show_handled(page, "decision", *([*map(decision_words, turn.decisions)] for turn in (before, after)))
    _show_handled(page, "draft", *([*map(draft_words, turn.drafts)] for turn in (before, after)))


def _show_handled(page: Page, name: str, olds: list[str], news: list[str]) -> None:
    """Print the texts that only one of two turns has: texts about its decisions, or about its drafts."""
    for change, ones, others in (("dropped", olds, news), ("added", news, olds)):
        mark, style = _MARKS[change]
        for words in (Counter(ones) - Counter(others)).elements():
            page.line((f"{mark} {name:<13} ", style), words)


def _changed(each: MessageDiff) -> Iterator[Piece]:
    mark, style = _MARKS[each.kind]
    message, place = (each.new, each.after) if each.new is not None else (each.old, each.before)
    assert isinstance(message, Message)
    yield (f"{mark} {place:>3} {message.role:<10}", style)
    if each.edit is not None and each.old is not None:
        edit, old, new = each.edit, text_of(each.old), text_of(message)
        yield f"{len(new):>8,}  "
        if edit.at == "elsewhere":
            yield "edited, but not in its text"
            return
        places = {"start": "at its start", "end": "at its end", "middle": f"at character {edit.place:,}"}
        yield f"edited, {edit.growth:+,} {places[edit.at]}: "
        yield old[max(0, edit.place - _AROUND) : edit.place]
        yield (f"[-{edit.removed}-]" if edit.removed else "", "red")
        yield (f"[+{edit.added}+]" if edit.added else "", "green")
    else:
        yield f"{len(text_of(message)):>8,}  {text_of(message)}"


def _fields(name: str, old: Json, new: Json, depth: int = 0) -> Iterator[tuple[str, Json, Json]]:
    """Yield the name, the old value and the new value of the setting `name` if it differs.

    If both values are objects, yield each of their fields that differs.
    """
    inner: list[tuple[str, Json, Json]] = []
    if isinstance(old, dict) and isinstance(new, dict) and depth < _DEEPEST:
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                inner.extend(_fields(f"{name}.{key}", old.get(key), new.get(key), depth + 1))
    yield from inner or [(name, old, new)]


def _json(value: Json) -> str:
    return "-" if value is None else msgspec.json.encode(value).decode()
