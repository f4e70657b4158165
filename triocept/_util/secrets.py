"""The finder of keys, and the mark that stands where one was taken out.

Rules:

1. A provider's key is in use while its upstream is open, also one that goes in a header of its own: in whatever
   rollout it turns up then, it is taken out of what is recorded.
2. A key is found as it is written, and behind JSON's escapes, however deep: each of its letters may stand as its number
   (`\\u0073k-…`), a slash or a quote behind backslashes.
3. Only what can be a secret is one. Local servers are given "x", "test" or "EMPTY": such a key is a part of ordinary
   words and numbers.
4. Keys in use are always looked for. Known forms of keys (see `key_forms`) and values of the environment are looked
   for where the caller asks for them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from .key_forms import key_forms

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
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|SECRET_?KEY|TOKEN|AUTH_?TOKEN|PASSWORD|KEY)$")
"""Variables of the environment that hold a key."""
_RANDOM = re.compile(r"(?=\D*\d)\S+")
_LEAST = 16
"""Characters of such a value. Shorter ones are words, as often as not (`postgres`), and not there in every run."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
"""A string in JSON; one without an end goes to the end."""
_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode


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


def without_keys(text: str, more: Iterable[str] = (), *, known_forms: bool = False) -> str:
    """Return a text without the keys that are in use, and without every key of triocept's own.

    Args:
        text: the text.
        more: further keys.
        known_forms: also take out what has a known form of a key.
    """
    clean = _without_written(text, more, known_forms)
    if r"\u00" in clean and _HIDES(clean):  # nearly all numbered letters are beyond ASCII
        meant = _NUMBERED.sub(lambda found: chr(int(found[1], 16)), clean)
        if (found := _without_written(meant, more, known_forms)) != meant:
            return found
    return clean


def cleaned_json(text: str, clean: Callable[[str], str]) -> str:
    """Return JSON, whole or cut off, with `clean` applied to it as it is written and to what its strings mean."""

    def string(found: re.Match[str]) -> str:
        written = found[0]
        if "\\" not in written:
            return written
        try:
            meant = _decode_text(written)
        except (msgspec.DecodeError, UnicodeError):
            return written
        kept = clean(meant)
        return written if kept == meant else _encode(kept).decode()

    return clean(_STRING.sub(string, text) if "\\" in text else text)


def environment_keys(more: Iterable[str] = ()) -> list[str]:
    """Return the values of variables that hold a key by their name, and the secrets of `more`, the longest first."""
    keys = {key for key in more if len(key) >= SECRET}
    for name, value in os.environ.items():
        if _NAMED.search(name.upper()) and len(value) >= _LEAST and _RANDOM.fullmatch(value):
            keys.add(value)
    return sorted(keys, key=len, reverse=True)


def may_hold_a_key(data: bytes) -> bool:
    """Whether a key can be in these bytes, or in what they are the JSON of; False: there is none."""
    return (
        _OWN in data
        or (LIVE_KEYS.bytes != () and any(map(data.__contains__, LIVE_KEYS.bytes)))
        or (LIVE_KEYS.escaped != () and b"\\" in data)
        or (b"\\u00" in data and _HIDES_BYTES(data) is not None)
    )


def _without_written(text: str, more: Iterable[str], known_forms: bool) -> str:
    """Without those whose letters stand as such."""
    for key in (*LIVE_KEYS.texts, *more):
        text = text.replace(key, MARK)
    if LIVE_KEYS.escaped and "\\" in text:
        for pattern in LIVE_KEYS.escaped:
            text = pattern.sub(MARK, text)
    if OWN_TEXT in text:
        text = _OWN_KEY.sub(MARK, text)
    return key_forms().sub(MARK, text) if known_forms else text


def _escaped(key: str) -> re.Pattern[str]:
    begin = r"(?<!\\)" if key[0] in _SPECIAL else ""  # else each backslash of a row would be one, for nothing
    return re.compile(begin + "".join([_SPECIAL.get(letter) or re.escape(letter) for letter in key]))
