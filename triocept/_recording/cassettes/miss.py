"""The errors of a cassette for a call without a recorded answer: the closest call, line by line, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from ..._canonical.content import Json
from ..._canonical.memory import common_head
from ...errors import ReplayMiss
from ..miss import cut, not_recorded
from .document import Recorded
from .yaml_writer import write_yaml

_MOST = 60
"""Maximum lines of a difference to show."""
_LONGEST = 5000
"""Maximum lines to compare, from the first difference between two calls."""
_SHORT = 1000
"""Number of lines that can be compared quickly, whatever they contain."""
_AROUND = 2
"""Equal lines to show before and after each difference."""


def miss(asker: str, form: dict[str, Json], calls: Sequence[Recorded], file: str, advice: str) -> ReplayMiss:
    """Return the error of a call that no recorded call equals.

    Args:
        asker: the call, in words.
        form: what it asks.
        calls: what is recorded.
        file: the file of `calls`.
        advice: what to do.
    """
    asked = _lines(form)
    closest = max(calls, key=lambda call: _common(_lines(call.form), asked), default=None)
    if closest is None:
        return not_recorded(asker, file, advice)
    count = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
    return not_recorded(
        asker,
        file,
        advice,
        which=f"The closest of its {count} is {place(closest, file)}",
        closest=str(closest.number),
        shown="\n".join(_difference(_lines(closest.form), asked)),
    )


def used_up(asker: str, calls: Sequence[Recorded], file: str, advice: str) -> ReplayMiss:
    """Return the error of a call that was sent more often than it is recorded."""
    times = {1: "once", 2: "twice"}.get(len(calls), f"{len(calls)} times")
    return ReplayMiss(
        f"{asker} asks what {file} has {times}, and that was answered: {place(calls[-1], file)}. Was the application "
        f"to ask it again? `repeats=True` gives the last answer again and again.\n{advice}",
        closest=str(calls[-1].number),
    )


def place(call: Recorded, file: str) -> str:
    """Return the place of a recorded call, in words."""
    where = f"{file}:{call.line}" if call.line is not None else "recorded just now"
    return f"call {call.number} ({where})"


def _lines(form: dict[str, Json]) -> list[str]:
    return write_yaml(form).splitlines()


def _common(recorded: Sequence[str], asked: Sequence[str]) -> float:
    """Return the share of equal lines of two calls, from 0 to 1; the order is ignored for speed."""
    same = sum((Counter(recorded) & Counter(asked)).values())
    return 2 * same / (len(recorded) + len(asked))


def _difference(recorded: list[str], asked: list[str]) -> Iterator[str]:
    """Yield lines as `diff -u` does; long lines are cut around their first difference."""
    head = max(0, common_head(recorded, asked) - _AROUND)
    tail = common_head(recorded[:head:-1], asked[:head:-1])
    rest = max(0, tail - _AROUND)
    before, now = (lines[head : len(lines) - rest][:_LONGEST] for lines in (recorded, asked))
    # A matcher takes quadratic time for frequent lines, unless it treats them as junk.
    matcher = SequenceMatcher(None, before, now, autojunk=len(before) + len(now) > _SHORT)
    shown = 0
    for group in matcher.get_grouped_opcodes(_AROUND):
        first, last = group[0], group[-1]
        places = first[1] + head + 1, last[2] - first[1], first[3] + head + 1, last[4] - first[3]
        yield "@@ -{},{} +{},{} @@".format(*places)
        for line in _hunk(group, before, now):
            if shown == _MOST:
                yield "… and more"
                return
            shown += 1
            yield line


def _hunk(
    group: Sequence[tuple[str, int, int, int, int]], recorded: list[str], asked: list[str]
) -> Iterator[str]:
    for kind, before, end, now, until in group:
        if kind == "equal":
            yield from (f"  {cut(line, 0)}" for line in recorded[before:end])
            continue
        old, new = recorded[before:end], asked[now:until]
        heads = [common_head(one, other) for one, other in zip(old, new, strict=False)]
        heads += [0] * (max(len(old), len(new)) - len(heads))
        yield from (f"- {cut(line, head)}" for line, head in zip(old, heads, strict=False))
        yield from (f"+ {cut(line, head)}" for line, head in zip(new, heads, strict=False))
