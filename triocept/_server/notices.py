"""Limit the log lines that clients can cause as often as they like. Default: one line a minute for each kind."""

from __future__ import annotations

import logging
from typing import final

import msgspec
import trio

from .._util.secrets import without_keys

EVERY = 60.0
"""Seconds of the period in which lines of a kind are counted."""
MOST_KINDS = 1_000
"""Maximum number of kinds. When reached: kinds whose minute is over are removed. (Some kinds exist for only one
rollout.)"""

log = logging.getLogger("triocept.endpoint")


@final
class Notices:
    """Counts, by kind, the log lines that clients of one endpoint have caused in the last minute."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def warn(self, kind: str, text: str, *args: object, most: int = 1) -> None:
        """Log a line, if fewer than `most` lines of the same kind were logged in the last minute."""
        now = trio.current_time()
        seen = self._kinds.get(kind)
        left_out = 0
        if seen is None or now >= seen.until:
            left_out = seen.left_out if seen is not None else 0
            if len(self._kinds) >= MOST_KINDS:
                self._kinds = {name: each for name, each in self._kinds.items() if now < each.until}
            seen = self._kinds[kind] = _Kind(now + EVERY)
        if seen.logged == most:
            seen.left_out += 1
            return
        seen.logged += 1
        if left_out:
            text, args = f"{text} (%d similar lines before this line were not logged)", (*args, left_out)
        log.warning(text, *args)


class _Kind(msgspec.Struct, gc=False):
    """Numbers of log lines of one kind in the current minute: lines that were logged, and lines that were left out."""

    until: float
    logged: int = 0
    left_out: int = 0


def shown(text: str, most: int = 300) -> str:
    """Return a client's text in a form that is safe in a log line.

    The returned text has no keys, no line breaks and no terminal control characters, and at most `most` characters.
    """
    text = without_keys(text)
    if len(text) > most:
        text = f"{text[:most]}…"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
