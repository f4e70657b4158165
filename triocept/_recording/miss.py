"""Make the error for a call that a recording cannot answer.

The error's text shows the closest recorded call, and the lines in which this call and the live call differ. Replays and
cassettes share this error, because both compare calls as JSON values. The error shows these values as YAML.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

from .._canonical.content import Json
from .._canonical.memory import common_head
from ..errors import ReplayMiss
from .yaml_writer import write_yaml

_WIDTH = 160
"""Maximum characters of a line in the error."""
_BEFORE = 40
"""Number of characters shown before the first difference between two long lines."""
_MOST = 60
"""Maximum number of lines that show the difference between two calls."""
_LONGEST = 5000
"""Maximum number of lines that are compared, counted from the first difference between two calls."""
_SHORT = 1000
"""Maximum number of lines for which an exact comparison is always fast. In longer texts, the comparison at first
ignores frequent lines (the "junk" of difflib)."""
_AROUND = 2
"""Number of equal lines shown before and after each difference."""
_LABEL = re.compile(r"[ -]*[\w ]{1,40}: ")
"""Pattern of a label at the beginning of a line. When a line is cut, its label is kept."""


class Closest(NamedTuple):
    """The recorded call that is closest to a live call."""

    id: str
    place: str
    """Description of the position of the recorded call in its recording."""
    form: Json
    """The compared content of the recorded call."""


def not_recorded(
    call: str, recording: str, advice: str, *, form: Json, count: int, closest: Closest | None
) -> ReplayMiss:
    """Return the error for a live call that equals no recorded call.

    Args:
        call: description of the live call.
        recording: description of the recording.
        advice: text that advises the user what to do.
        form: the compared content of the live call.
        count: number of calls in the recording.
        closest: the recorded call that is closest to the live call; None if the recording contains no calls.
    """
    if closest is None:
        return ReplayMiss(f"no recorded call matches {call}: {recording} contains no calls.\n{advice}")
    shown = difference(closest.form, form)
    which = "Its only call" if count == 1 else f"The closest of its {count} calls"
    return ReplayMiss(
        f"no recorded call matches {call}, in {recording}. {which} is {closest.place} (- recorded, + received):\n"
        f"{shown}\n{advice}",
        closest=closest.id,
        difference=shown,
    )


def no_answer(call: str, place: str, advice: str, closest: str) -> ReplayMiss:
    return ReplayMiss(
        f"{call} has no complete recorded answer: the recorded agent disconnected from {place}.\n{advice}",
        closest=closest,
    )


def lines_of(form: Json) -> list[str]:
    return write_yaml(form).splitlines()


def difference(recorded: Json, live: Json) -> str:
    """Return the differences between two calls, in the format of `diff -u`. Cut equal parts of long lines."""
    one, other = lines_of(recorded), lines_of(live)
    head = max(0, common_head(one, other) - _AROUND)
    tail = common_head(one[:head:-1], other[:head:-1])
    rest = max(0, tail - _AROUND)
    before, now = (lines[head : len(lines) - rest][:_LONGEST] for lines in (one, other))
    # A matcher takes quadratic time for frequent lines, unless it treats them as junk.
    matcher = SequenceMatcher(None, before, now, autojunk=len(before) + len(now) > _SHORT)
    shown: list[str] = []
    left = _MOST
    for group in matcher.get_grouped_opcodes(_AROUND):
        first, last = group[0], group[-1]
        places = first[1] + head + 1, last[2] - first[1], first[3] + head + 1, last[4] - first[3]
        shown.append("@@ -{},{} +{},{} @@".format(*places))
        lines: list[str] = []
        for kind, start, end, live_start, live_end in group:
            old, new = before[start:end], now[live_start:live_end]
            if kind == "equal":
                lines += [f"  {_cut(line, 0)}" for line in old]
                continue
            heads = [common_head(one, other) for one, other in zip(old, new, strict=False)]
            heads += [0] * (max(len(old), len(new)) - len(heads))
            lines += [f"- {_cut(line, head)}" for line, head in zip(old, heads, strict=False)]
            lines += [f"+ {_cut(line, head)}" for line, head in zip(new, heads, strict=False)]
        shown += lines[:left]
        if len(lines) > left:
            return "\n".join([*shown, "… and more"])
        left -= len(lines)
    return "\n".join(shown)


def _cut(line: str, head: int) -> str:
    """Return `line`; if it is too long, only its label and the text around its first difference.

    `head` is the index of the first difference in `line`.
    """
    label = found[0] if (found := _LABEL.match(line)) else ""
    start = max(len(label), head - _BEFORE) if len(line) > _WIDTH else len(label)
    text = line[start : start + _WIDTH]
    return f"{label}{'…' if start > len(label) else ''}{text}{'…' if start + _WIDTH < len(line) else ''}"
