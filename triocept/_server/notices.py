"""Log lines that a client can cause as often as it likes: one a minute of each kind."""

from __future__ import annotations

import logging
from math import inf
from typing import final

import trio

from .._util.secrets import without_keys

__all__ = ["Notices", "shown"]

EVERY = 60.0
"""Seconds."""

log = logging.getLogger("triocept.endpoint")


@final
class Notices:
    """What one endpoint has said lately."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, text: str, *args: object) -> None:
        """Log it, unless a line of this kind (one of few) was logged in the last minute."""
        now = trio.current_time()
        if now < self._due.get(kind, -inf):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._due[kind] = now + EVERY
        if left_out := self._left_out.pop(kind, 0):
            text, args = f"{text} (and %d like it before)", (*args, left_out)
        log.warning(text, *args)


def shown(text: str, most: int = 300) -> str:
    """What a client sent, for a log line: without keys, in one line, without what would steer a terminal, and not too
    long."""
    text = without_keys(text)
    if len(text) > most:
        text = f"{text[:most]}…"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
