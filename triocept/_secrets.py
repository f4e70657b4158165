"""Keys that are in use, and the mark that stands where one was taken out.

Rules:

1. A provider's key is in use while its upstream is open, also one that goes in a header of its own: in whatever
   rollout it turns up then, it is taken out of what is recorded.
2. Only what can be a secret is one. Local servers are given "x", "test" or "EMPTY": such a key is a part of ordinary
   words and numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LIVE_KEYS", "MARK", "OWN_TEXT", "SECRET", "LiveKeys", "without_keys"]

MARK = "[redacted]"
SECRET = 8
"""Characters. What is shorter is no secret: NIST SP 800-63B, 5.1.1.1, wants so many of a secret that people choose."""

OWN_TEXT = "sk-triocept-"
"""How every key of triocept's own begins."""
_OWN_KEY = re.compile(r"sk-triocept-[A-Za-z0-9_-]{16,}")


class LiveKeys:
    """The keys that are in use, each as often as it is."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.texts: tuple[str, ...] = ()
        """The keys, the longest first: a shorter one may be a part of it."""
        self.bytes: tuple[bytes, ...] = ()
        """The same as JSON has them, without quotes. They are printable ASCII."""

    @contextmanager
    def holding(self, key: str | None) -> Iterator[None]:
        """Hold a key for as long as the block runs; None, or what is too short, is none."""
        if key is None or len(key) < SECRET:
            yield
            return
        self._held[key] += 1
        self._changed()
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
            self._changed()

    def _changed(self) -> None:
        self.texts = tuple(sorted(self._held, key=len, reverse=True))
        self.bytes = tuple([key.replace("\\", r"\\").replace('"', r"\"").encode() for key in self.texts])


LIVE_KEYS = LiveKeys()
"""Those of this program."""


def without_keys(text: str) -> str:
    """A text without the keys that are in use, and without every key of triocept's own."""
    for key in LIVE_KEYS.texts:
        text = text.replace(key, MARK)
    return _OWN_KEY.sub(MARK, text) if OWN_TEXT in text else text
