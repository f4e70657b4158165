"""Standard error as a screen: output that cannot be shown is dropped without an error.

Rules:

1. A screen that is closed, full, or blocked (Ctrl-S, a pager) loses lines, and never delays or fails an exchange. The
   number of lost lines is printed once the screen takes output again.
2. Text of an agent or a model cannot control the terminal: characters that are not printable are shown as numbers.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Final

_PIECE: Final = 4096
"""Bytes of one write: a pipe or a terminal that is writable takes as many without blocking (a page)."""


class Screen(io.TextIOBase):
    """A text file that accepts everything.

    Args:
        patience: seconds to wait for a blocked screen.
    """

    def __init__(self, patience: float = 0) -> None:
        self._patience = patience
        self._missed = 0
        """Dropped lines that were not reported yet."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return sys.stderr.isatty()
        except (AttributeError, ValueError):  # there is no stderr, or it was closed
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
            poll = select.poll() if hasattr(select, "poll") else None  # None: Windows
            if poll is not None:
                poll.register(number, select.POLLOUT)
            while rest:
                if poll is not None and not poll.poll(self._patience * 1000):
                    return False
                rest = rest[os.write(number, rest[:_PIECE]) :]
        except (AttributeError, OSError, ValueError):
            return False
        return True


def visible(text: str, keep: str = "") -> str:
    """Return the text without anything that controls a terminal (escapes, other controls, changes of direction).

    Args:
        text: the text.
        keep: characters that are kept: for example line ends, in a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """Print some lines, the last ones of a program, with a second of patience."""
    Screen(patience=1).write(visible(text, keep="\n\t") + "\n")
