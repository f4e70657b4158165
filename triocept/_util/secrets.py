r"""The finder of keys, and the mark that replaces a key.

Rules:

1. A provider's key is in use while its upstream is open, also if it is sent in a header of its own. During that time
   it is removed from everything that any rollout records.
2. A key is found as written, and behind JSON's escapes of any depth: each of its letters may be written as its number
   (`\u0073k-…`), a slash or a quote after backslashes.
3. Only a text that can be a secret counts. Local servers are given "x", "test" or "EMPTY": such a key is a part of
   ordinary words and numbers.
4. Keys in use are always searched for. Known forms of keys (see `key_forms`) and values of the environment are
   searched for if the caller requests it.
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
"""Minimum characters of a secret: NIST SP 800-63B, 5.1.1.1, requires as many of a secret that people choose."""

OWN_TEXT = "sk-triocept-"
"""Prefix of every key of triocept's own."""
_OWN_KEY = re.compile(r"sk-triocept-[A-Za-z0-9_-]{16,}")
_NUMBERED = re.compile(r"(?<!\\)\\++u00((?!22|5[Cc])[2-7][0-9A-Fa-f])")
"""A printable letter written as its number, without quote and backslash, whose text would not be JSON without it.
Linear: only the first of a row of backslashes is a beginning, and no backslash is given back."""
_HIDES = re.compile(r"\\u00[2-7]").search
_HIDES_BYTES = re.compile(rb"\\u00[2-7]").search
_OWN = OWN_TEXT.encode()
_SIGNS = (OWN_TEXT, r"\u00")
"""Prefix of triocept's own keys, and of letters written as numbers."""
_SPECIAL = {'"': r'\\*+(?:"|u0022)', "/": r"\\*+/", "\\": r"\\*+(?:u005[Cc])?"}
"""Characters that JSON writes with a backslash, or may write so. A backslash may match nothing: it then belongs to a
numbered letter after it."""
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|SECRET_?KEY|TOKEN|AUTH_?TOKEN|PASSWORD|KEY)$")
"""Names of environment variables that hold a key."""
_RANDOM = re.compile(r"(?=\D*\d)\S+")
_LEAST = 16
"""Minimum characters of such a value. Shorter values are often words (`postgres`), and not set in every run."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
"""A string in JSON; a string without an end extends to the end of the text."""
_SPACE, _LINE_END = re.compile(r"\s"), re.compile(r"[\r\n]")
_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode


class LiveKeys:
    """The keys in use, each with its number of uses."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.texts: tuple[str, ...] = ()
        """The keys, the longest first: a shorter key may be a part of a longer one."""
        self.bytes: tuple[bytes, ...] = ()
        """The keys as JSON contains them, without quotes. They are printable ASCII."""
        self.escaped: tuple[re.Pattern[str], ...] = ()
        """Patterns of the keys that JSON may write in several forms: few keys have such a character."""
        self.signs: tuple[str, ...] = _SIGNS
        """Texts of which at least one is in every text with a key: most texts are excluded at once."""

    @contextmanager
    def holding(self, key: str | None) -> Iterator[None]:
        """Hold a key for as long as the block runs. Ignore None, and texts that are too short."""
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
        # A key that begins with a special letter begins a row of backslashes: otherwise each would match in vain.
        self.escaped = tuple(
            [
                re.compile(
                    (r"(?<!\\)" if key[0] in _SPECIAL else "")
                    + "".join([_SPECIAL.get(letter) or re.escape(letter) for letter in key])
                )
                for key in self.texts
                if _SPECIAL.keys() & set(key)
            ]
        )
        self.signs = (*_SIGNS, *self.texts, *(["\\"] if self.escaped else []))


LIVE_KEYS = LiveKeys()
"""The keys of this program."""


class KeylessPieces:
    """A text that comes in pieces, without the keys in use.

    The end of a text that may begin a key waits for the next piece. A word with a backslash, or with the prefix of
    triocept's own keys, waits for the white space after it.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._in_word = False
        """True if everything waits for white space."""

    def take(self, piece: str) -> str:
        """Return the text that may go on, without keys."""
        self._held.append(piece)
        if self._in_word and not _space().search(piece):
            return ""
        text = "".join(self._held)
        at, self._in_word = _possible_key(text)
        self._held = [text[at:]]
        return without_keys(text[:at])

    def end(self) -> str:
        """Return the rest, without keys."""
        text, self._held, self._in_word = "".join(self._held), [], False
        return without_keys(text)


def _possible_key(text: str) -> tuple[int, bool]:
    """Return the start of the end of a text that may begin a key, and True if it lasts until white space."""
    if "\\" in text or OWN_TEXT in text:
        word = max([found.end() for found in _space().finditer(text)], default=0)
        if "\\" in text[word:] or OWN_TEXT in text[word:]:
            return word, True
    at = size = len(text)
    for key in (OWN_TEXT, *LIVE_KEYS.texts):
        start = text.find(key[0], max(0, size - len(key) + 1))
        while 0 <= start < at and not key.startswith(text[start:]):
            start = text.find(key[0], start + 1)
        at = min(at, start) if start >= 0 else at
    while at < size:  # a whole key may extend over this place
        starts = [text.find(key, max(0, at - len(key) + 1)) for key in LIVE_KEYS.texts]
        before = [start for start in starts if 0 <= start < at]
        if not before:
            break
        at = min(before)
    return at, False


def _space() -> re.Pattern[str]:
    """Return the pattern of a character that no key in use contains."""
    return _LINE_END if any(" " in key for key in LIVE_KEYS.texts) else _SPACE


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
    """Return True if these bytes, or their decoded JSON, may contain a key; False means they contain none."""
    return (
        _OWN in data
        or (LIVE_KEYS.bytes != () and any(map(data.__contains__, LIVE_KEYS.bytes)))
        or (LIVE_KEYS.escaped != () and b"\\" in data)
        or (b"\\u00" in data and _HIDES_BYTES(data) is not None)
    )


def _without_written(text: str, more: Iterable[str], known_forms: bool) -> str:
    """Return the text without keys that are written letter by letter."""
    for key in (*LIVE_KEYS.texts, *more):
        text = text.replace(key, MARK)
    if LIVE_KEYS.escaped and "\\" in text:
        for pattern in LIVE_KEYS.escaped:
            text = pattern.sub(MARK, text)
    if OWN_TEXT in text:
        text = _OWN_KEY.sub(MARK, text)
    return key_forms().sub(MARK, text) if known_forms else text
