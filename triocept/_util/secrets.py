"""Keys that are in use, and the mark that stands where one was taken out.

Rules:

1. A provider's key is in use while its upstream is open, also one that goes in a header of its own: in whatever
   rollout it turns up then, it is taken out of what is recorded.
2. A key is found as it is written, and behind JSON's escapes, however deep: each of its letters may stand as its number
   (`\\u0073k-…`), a slash or a quote behind backslashes.
3. Only what can be a secret is one. Local servers are given "x", "test" or "EMPTY": such a key is a part of ordinary
   words and numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MARK = "[redacted]"
SECRET = 8
"""Characters. What is shorter is no secret: NIST SP 800-63B, 5.1.1.1, wants so many of a secret that people choose."""

OWN_TEXT = "sk-triocept-"
"""How every key of triocept's own begins."""
_OWN_KEY = re.compile(r"sk-triocept-[A-Za-z0-9_-]{16,}")
_NUMBERED = re.compile(r"(?<!\\)\\++u00((?!22|5[Cc])[2-7][0-9A-Fa-f])")
"""A printable letter as its number; no quote and no backslash, whose text would not be JSON without it. Linear: of a
row of backslashes only the first is a beginning, and none is given back."""
_HIDES = re.compile(r"\\u00[2-7]").search
_HIDES_BYTES = re.compile(rb"\\u00[2-7]").search
_OWN = OWN_TEXT.encode()
_SIGNS = (OWN_TEXT, r"\u00")
"""How triocept's own keys begin, and letters that are written as their numbers."""
_SPECIAL = {'"': r'\\*+(?:"|u0022)', "/": r"\\*+/", "\\": r"\\*+(?:u005[Cc])?"}
"""What JSON writes with a backslash, or may. A backslash may be none: it goes with those of a numbered letter behind
it."""


class LiveKeys:
    """The keys that are in use, each as often as it is."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.texts: tuple[str, ...] = ()
        """The keys, the longest first: a shorter one may be a part of it."""
        self.bytes: tuple[bytes, ...] = ()
        """The same as JSON has them, without quotes. They are printable ASCII."""
        self.escaped: tuple[re.Pattern[str], ...] = ()
        """Those that JSON may write otherwise, in whatever way: few keys have such a character."""
        self.signs: tuple[str, ...] = _SIGNS
        """A text in which none of these stands holds no key: nearly all of them are told so at once."""

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
        self.escaped = tuple([_escaped(key) for key in self.texts if _SPECIAL.keys() & set(key)])
        self.signs = (*_SIGNS, *self.texts, *(["\\"] if self.escaped else []))


LIVE_KEYS = LiveKeys()
"""Those of this program."""


def without_keys(text: str) -> str:
    """A text without the keys that are in use, and without every key of triocept's own."""
    text = _without_written(text)
    if r"\u00" in text and _HIDES(text):  # nearly all numbered letters are beyond ASCII
        meant = _NUMBERED.sub(lambda found: chr(int(found[1], 16)), text)
        clean = _without_written(meant)
        if clean != meant:
            return clean
    return text


def may_hold_a_key(data: bytes) -> bool:
    """Whether a key can be in these bytes, or in what they are the JSON of; False: there is none."""
    return (
        _OWN in data
        or (LIVE_KEYS.bytes != () and any(map(data.__contains__, LIVE_KEYS.bytes)))
        or (LIVE_KEYS.escaped != () and b"\\" in data)
        or (b"\\u00" in data and _HIDES_BYTES(data) is not None)
    )


def _without_written(text: str) -> str:
    """Without those whose letters stand as such."""
    for key in LIVE_KEYS.texts:
        text = text.replace(key, MARK)
    if LIVE_KEYS.escaped and "\\" in text:
        for pattern in LIVE_KEYS.escaped:
            text = pattern.sub(MARK, text)
    return _OWN_KEY.sub(MARK, text) if OWN_TEXT in text else text


def _escaped(key: str) -> re.Pattern[str]:
    begin = r"(?<!\\)" if key[0] in _SPECIAL else ""  # else each backslash of a row would be one, for nothing
    return re.compile(begin + "".join([_SPECIAL.get(letter) or re.escape(letter) for letter in key]))
