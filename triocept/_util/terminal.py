"""Write output for people to standard error. Output that cannot be shown is dropped without an error.

Rules:

1. If the terminal is closed, full, or blocked (by Ctrl-S or a pager), lines are lost, but no exchange is delayed and
   none fails. When the terminal accepts output again, the number of lost lines is printed.
2. Text of an agent or a model cannot control the terminal: characters that are not printable are shown as numbers.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
from typing import Final

_PIECE: Final = 4096
"""Maximum bytes of one write (a page). A pipe or terminal that is writable accepts this many bytes without blocking."""


class Screen(io.TextIOBase):
    """A text file that writes to standard error. The methods of a `Screen` never raise an exception.

    Args:
        patience: seconds to wait for a blocked terminal.
    """

    def __init__(self, patience: float = 0) -> None:
        self._patience = patience
        self._missed = 0
        """Number of lost lines that were not reported yet."""

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
        if self._missed and self._put(
            f"({self._missed} lines were not shown, because standard error did not accept them)\n"
        ):
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


_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0\ufffc\U0001d159\U000e0100-\U000e01ef]"
    "|(?<![#*0-9\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff])\ufe0f"  # otherwise a part of an emoji
)
"""Characters that `str.isprintable` accepts although they are invisible."""
_LONG = re.compile(r"(?<=\S) {9,}| {41,}")


def visible(text: str, keep: str = "") -> str:
    """Return the text with its invisible characters, and those that change the writing direction, written as numbers.

    Args:
        text: the text.
        keep: control characters that are not replaced, such as line ends in a text of several lines.
    """
    if not text.isascii():
        text = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def all_visible(text: str) -> str:
    """Return `visible(text)`, but replace each long run of spaces by the number of its spaces."""
    return _LONG.sub(lambda found: f"⟨{len(found[0])} spaces⟩", visible(text))


def say(text: str) -> None:
    """Print `text`, the last message of a program that ends, to standard error.

    Wait up to a second for a blocked terminal.
    """
    Screen(patience=1).write(visible(text, keep="\n\t") + "\n")
