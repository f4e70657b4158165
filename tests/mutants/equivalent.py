"""Mutants that say the same as the program: no test can kill them, and each has its reason here.

A mutant is known by its file and by the lines that it takes out and puts in, without their indentation: so it is still
known when lines above it come and go, and is looked at anew when its own line is another.
"""

from __future__ import annotations

import difflib

Change = tuple[str, str, str]
"""File, what was there, what is there instead."""

EQUIVALENT: dict[Change, str] = {
    ("triocept/_rollout/answer.py", "self._flushing = None", "pass"): (
        "a scope that has been left can be cancelled, and nothing comes of it; the next flush has another"
    ),
    ("triocept/_rollout/asking.py", "return True", "return None"): (
        "who asks has no connection that could be full: a flush of it sends nothing, and then it is not"
    ),
    ("triocept/_rollout/service_calls.py", "raise cancelled from None", "pass"): (
        "nothing but its own scope cancels the call, and that ends right behind it, whether it has caught it or not"
    ),
}


def change_of(file: str, source: str, changed: str) -> Change:
    """What a mutant is known by."""
    lines = list(difflib.ndiff(source.splitlines(), changed.splitlines()))
    removed, added = (
        "\n".join(line[2:].strip() for line in lines if line.startswith(f"{sign} ")) for sign in "-+"
    )
    return file, removed, added


def diff_of(file: str, source: str, changed: str) -> str:
    """What a mutant is read as: one line around it."""
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), file, file, n=1, lineterm="")
    return "\n".join(list(lines)[2:])
