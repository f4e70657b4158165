"""Standard error, as a screen: what cannot be shown is dropped, and fails nobody.

Rules:

1. A screen that is closed, full, or held up (Ctrl-S, a pager) costs lines, never an exchange and never a wait. It says
   how many, once it takes some again.
2. Nothing of an agent or a model can steer the terminal: what is no printable character is shown as its number.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Final

_PIECE: Final = 4096
"""Bytes that are written at once: a pipe or a terminal that says it is writable takes them without a wait (a page)."""


class Screen(io.TextIOBase):
    """A text file that takes everything.

    Args:
        patience: seconds that it may wait for a screen that is held up.
    """

    def __init__(self, patience: float = 0) -> None:
        self._patience = patience
        self._missed = 0
        """Lines that were dropped, and not yet told of."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return sys.stderr.isatty()
        except (AttributeError, ValueError):  # there is none, or it was closed
            return False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._missed and self._put(f"({self._missed} lines were not shown: nobody took them)\n"):
            self._missed = 0
        if not self._put(text):
            self._missed += max(1, text.count("\n"))
        return len(text)

    def _put(self, text: str) -> bool:
        rest = text.encode(self.encoding, "backslashreplace")
        try:
            number = sys.stderr.fileno()
            while rest:
                if not _is_writable(number, self._patience):
                    return False
                rest = rest[os.write(number, rest[:_PIECE]) :]
        except (AttributeError, OSError, ValueError):
            return False
        return True


def _is_writable(number: int, seconds: float) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def visible(text: str, keep: str = "") -> str:
    """The text without anything that a terminal would obey (escapes, other controls, changes of direction).

    Args:
        text: as it came.
        keep: characters that stay what they are: a line's end, in a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """Show some lines, the last ones of a program: so they have a second to get through."""
    Screen(patience=1).write(visible(text, keep="\n\t") + "\n")
