r"""Find keys in texts, and replace each key by the text `MARK`.

Rules:

1. A provider's key is in use while its upstream is open. During that time, the key is removed from everything that any
   rollout records, whichever header contains the key.
2. A key is found in its original form, and also if it was escaped as JSON once or several times. In an escaped key, any
   letter may be written as its number (`\u0073k-…`), and backslashes may precede a slash or a quote.
3. Only a text that can be a secret counts as a key. Users give local servers keys such as "x", "test" or "EMPTY", which
   also occur in ordinary words and numbers.
4. Keys in use are always searched for. Known forms of keys (see `key_forms`) and values of the environment are searched
   for only if the caller requests it.
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
"""Minimum characters of a secret. NIST SP 800-63B, 5.1.1.1, requires 8 characters for a secret that people choose."""

OWN_TEXT = "sk-triocept-"
"""Prefix of every key that triocept creates."""
_OWN_KEY = re.compile(r"sk-triocept-[A-Za-z0-9_-]{16,}")
_NUMBERED = re.compile(r"(?<!\\)\\++u00((?!22|5[Cc])[2-7][0-9A-Fa-f])")
"""Pattern of a printable letter written as its number. (A quote or a backslash is excluded, because as a letter it
would break the JSON.) The search takes linear time: a match begins at the first of several backslashes, without
backtracking."""
_HIDES = re.compile(r"\\u00[2-7]").search
_HIDES_BYTES = re.compile(rb"\\u00[2-7]").search
_OWN = OWN_TEXT.encode()
_RARE = ("-", "_")
"""Characters that most keys contain, but base64 does not. A search for a single character is the fastest search."""
_SPECIAL = {'"': r'\\*+(?:"|u0022)', "/": r"\\*+/", "\\": r"\\*+(?:u005[Cc])?"}
"""Patterns of the characters that JSON writes, or may write, with a backslash. The pattern of a backslash also matches
an empty text, because the backslash may belong to a letter that is written as its number."""
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|SECRET_?KEY|TOKEN|AUTH_?TOKEN|PASSWORD|KEY)$")
"""Pattern of the names of environment variables that contain a key."""
_RANDOM = re.compile(r"(?=\D*\d)\S+")
_LEAST = 16
"""Minimum characters of a key in an environment variable. Shorter values are often ordinary words (`postgres`)."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
"""Pattern of a string in JSON. A string without an end extends to the end of the text."""
_SPACE, _LINE_END = re.compile(r"\s"), re.compile(r"[\r\n]")
_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode


class LiveKeys:
    """The keys in use, each with the number of its current uses."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.texts: tuple[str, ...] = ()
        """The keys, the longest first, because a shorter key may be a part of a longer key."""
        self.bytes: tuple[bytes, ...] = ()
        """The keys as JSON writes them, without the quotes around them. Keys consist of printable ASCII characters."""
        self.escaped: tuple[re.Pattern[str], ...] = ()
        """Patterns of the keys that JSON may write in several forms. Few keys contain a character that JSON escapes."""
        self._by_rare: tuple[tuple[str, tuple[str, ...]], ...] = (("-", (OWN_TEXT,)),)
        """The keys, and the prefix of triocept's own keys, grouped by a rare character that they contain. The group of
        the empty text contains keys without a rare character."""

    @contextmanager
    def holding(self, key: str | None) -> Iterator[None]:
        """Count a key as in use during the block. Ignore None, and texts that are too short to be a secret."""
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
        # If a key begins with an escaped letter, match only at the first of several backslashes, to save time.
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
        by_rare: dict[str, list[str]] = {"-": [OWN_TEXT]}
        for key in self.texts:
            by_rare.setdefault(next((one for one in _RARE if one in key), ""), []).append(key)
        self._by_rare = tuple([(rare, tuple(keys)) for rare, keys in by_rare.items()])

    def may_be_in(self, text: str) -> bool:
        """Return True if `text` may contain a key, and False if it certainly contains none.

        The method searches for each key separately, which takes about 0.4 ms in 5 MB. A regular expression for all keys
        would take 15 to 60 ms, and for many different keys a whole second.
        """
        for rare, keys in self._by_rare:
            if rare in text:
                for key in keys:
                    if key in text:
                        return True
        return "\\" in text and (self.escaped != () or (r"\u00" in text and _HIDES(text) is not None))


LIVE_KEYS = LiveKeys()
"""The keys that this program uses now."""


class KeylessPieces:
    """A filter that removes the keys in use from a text that comes in pieces.

    If the text so far ends with a possible start of a key, this end is not returned before the next piece arrives. A
    word with a backslash, or with the prefix of triocept's own keys, is not returned before the white space after it
    arrives.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._in_word = False
        """True if no more text is returned before white space arrives."""

    def take(self, piece: str) -> str:
        """Add a piece. Return the new text before the first possible incomplete key, without the complete keys."""
        self._held.append(piece)
        if self._in_word and not _space().search(piece):
            return ""
        text = "".join(self._held)
        at, self._in_word = _possible_key(text)
        self._held = [text[at:]]
        return without_keys(text[:at])

    def end(self) -> str:
        """Return the text that `take` has not returned yet, without the complete keys."""
        text, self._held, self._in_word = "".join(self._held), [], False
        return without_keys(text)


def _possible_key(text: str) -> tuple[int, bool]:
    """Return the position in `text` at which an incomplete key could start.

    The second value is True if the key can end only at white space.
    """
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
    """Return a pattern for white-space characters that no key in use contains."""
    return _LINE_END if any(" " in key for key in LIVE_KEYS.texts) else _SPACE


def without_keys(text: str, more: Iterable[str] = (), *, known_forms: bool = False) -> str:
    """Return a text without the keys in use and without keys that triocept generated. `MARK` replaces each key.

    Args:
        text: the text.
        more: further keys to remove.
        known_forms: True if texts that have a known form of a key are removed, too.
    """
    if not (more or known_forms or LIVE_KEYS.may_be_in(text)):
        return text  # nearly all texts
    clean = _without_written(text, more, known_forms)
    if r"\u00" in clean and _HIDES(clean):  # nearly all numbered letters are beyond ASCII
        meant = _NUMBERED.sub(lambda found: chr(int(found[1], 16)), clean)
        if (found := _without_written(meant, more, known_forms)) != meant:
            return found
    return clean


def cleaned_json(text: str, clean: Callable[[str], str]) -> str:
    """Apply `clean` to each decoded string in a JSON text, then to the whole text. The JSON may be incomplete."""

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


def own_keys_in(text: str) -> list[str]:
    return _OWN_KEY.findall(text) if OWN_TEXT in text else []


def environment_keys(more: Iterable[str] = ()) -> list[str]:
    """Return the values of environment variables named like keys (`…_API_KEY`), and the secrets in `more`.

    The longest value is the first.
    """
    keys = {key for key in more if len(key) >= SECRET}
    for name, value in os.environ.items():
        if _NAMED.search(name.upper()) and len(value) >= _LEAST and _RANDOM.fullmatch(value):
            keys.add(value)
    return sorted(keys, key=len, reverse=True)


def may_hold_a_key(data: bytes) -> bool:
    """Return True if `data`, or the JSON decoded from it, may contain a key.

    Return False if it certainly contains none.
    """
    return (
        _OWN in data
        or (LIVE_KEYS.bytes != () and any(map(data.__contains__, LIVE_KEYS.bytes)))
        or (LIVE_KEYS.escaped != () and b"\\" in data)
        or (b"\\u00" in data and _HIDES_BYTES(data) is not None)
    )


def _without_written(text: str, more: Iterable[str], known_forms: bool) -> str:
    """Return `text` without keys. A key in which letters are escaped as numbers is not removed."""
    for key in (*LIVE_KEYS.texts, *more):
        text = text.replace(key, MARK)
    if LIVE_KEYS.escaped and "\\" in text:
        for pattern in LIVE_KEYS.escaped:
            text = pattern.sub(MARK, text)
    if OWN_TEXT in text:
        text = _OWN_KEY.sub(MARK, text)
    return key_forms().sub(MARK, text) if known_forms else text
