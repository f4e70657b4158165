"""The error of a call that a recording cannot answer: the closest recorded call, and the first difference."""

from __future__ import annotations

from ..errors import ReplayMiss

WIDTH = 160
"""Maximum characters to show of a line."""
_BEFORE = 40
"""Characters to show before the first difference between two long lines."""


def not_recorded(
    asker: str, recording: str, advice: str, *, which: str = "", closest: str | None = None, shown: str = ""
) -> ReplayMiss:
    """Return the error of a call that no recorded call equals.

    Args:
        asker: the call, in words.
        recording: the recording, in words.
        advice: what to do.
        which: the closest recorded call, in words; empty: there is none.
        closest: its id.
        shown: the difference between the two.
    """
    asked = f"{asker} asks what {recording} does not have"
    if closest is None:
        return ReplayMiss(f"{asked}: no call is recorded there.\n{advice}")
    return ReplayMiss(
        f"{asked}. {which}; - is recorded, + is asked:\n{shown}\n{advice}", closest=closest, difference=shown
    )


def no_answer(asker: str, place: str, advice: str, closest: str) -> ReplayMiss:
    """Return the error of a call on which the recorded agent hung up, and this one does not."""
    return ReplayMiss(
        f"{asker} waits for more than {place} has: the agent hung up there.\n{advice}", closest=closest
    )


def cut(line: str, head: int) -> str:
    """Return a line; if it is long, from a little before its first difference to its counterpart."""
    start = max(0, head - _BEFORE) if len(line) > WIDTH else 0
    rest = line[start : start + WIDTH]
    return f"{'…' if start else ''}{rest}{'…' if start + WIDTH < len(line) else ''}"
