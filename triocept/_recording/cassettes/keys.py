"""Keys in what is recorded, found and taken out.

Rules:

1. A key is what looks like one of a known kind; and whatever is in use: a provider's that an upstream holds, or the
   value of a variable of the environment that is named as one.
2. It is taken out on both sides: of what is recorded, and of what is compared with it. So a run with another key, or
   none, still matches.
3. What follows a word without a break is one only where nothing else looks so: `task-…` is no key, and
   `tokensk-ant-api03-…` has one. Letters may be written as their numbers, `\\u0073k-…`.
4. Signatures and other blobs are searched for keys in use alone: they are random, and may look like anything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import final

from ..._canonical.content import Json
from ..._util.secrets import LIVE_KEYS, MARK, SECRET

_REST = r"(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"
_OF_GITHUB = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
_KINDS = {
    "sk-": _REST,  # OpenAI, Anthropic, OpenRouter, triocept
    "AIza": r"[A-Za-z0-9_-]{35}",  # Google
    "gsk_": _REST,  # Groq
    "hf_": _REST,  # Hugging Face
    "xai-": _REST,
    "nvapi-": _REST,
    "pplx-": _REST,
    **dict.fromkeys(_OF_GITHUB, r"[A-Za-z0-9]{36}"),
    "github_pat_": r"[A-Za-z0-9_]{22,}",
    "glpat-": r"[A-Za-z0-9_-]{20,}",
    **dict.fromkeys(("AKIA", "ASIA"), r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "xox": r"[abprs]-[A-Za-z0-9-]{20,}",  # Slack
    "eyJ": r"[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "-----BEGIN ": r"[A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
}
"""How a key begins, and how it goes on. To look for all beginnings takes a hundredth of what the patterns would."""
_BEFORE = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
"""What stands before a key: no letter of a word, but for one that an escape of JSON or of an URL ends with."""
_SOME = r"[A-Za-z0-9_-]"
_END = rf"(?!{_SOME})"
_GLUED = {
    "sk-": rf"(?:ant-[a-z]{{3,6}}[0-9]{{2}}-{_SOME}{{20,}}|or-v1-[0-9a-f]{{64}}|(?:proj|svcacct|admin)-{_SOME}{{60,}}"
    rf"|{_SOME}{{20,200}}T3BlbkFJ{_SOME}{{20,}})",
    "AIza": rf"{_SOME}{{35}}{_END}",
    "gsk_": r"[A-Za-z0-9]{40,}",
    "hf_": rf"[A-Za-z]{{34}}{_END}",
    "xai-": r"[A-Za-z0-9]{60,}",
    "nvapi-": rf"{_SOME}{{50,}}",
    "pplx-": r"[A-Za-z0-9]{40,}",
    **dict.fromkeys(_OF_GITHUB, r"[A-Za-z0-9]{36}" + _END),
    "github_pat_": r"[A-Za-z0-9_]{60,}",
    "glpat-": rf"{_SOME}{{20,}}",
    "xox": r"[abprs]-[0-9]{8,20}-[A-Za-z0-9-]{20,}",
    "eyJ": r"[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
}
"""How those go on that stand behind a letter: so long, or with such a mark, as no word has. `T3BlbkFJ` is `OpenAI` in
Base64, and stands in each of OpenAI's."""


def _pattern(begin: str, rest: str) -> re.Pattern[str]:
    before = "" if begin.startswith("-") else _BEFORE
    if begin in ("AKIA", "ASIA"):
        before = rf"(?:{before}|(?<=[a-z]))"
    glued = f"|{re.escape(begin)}{_GLUED[begin]}" if begin in _GLUED else ""
    return re.compile(f"{before}{re.escape(begin)}{rest}{glued}")


_PATTERNS = {begin: _pattern(begin, rest) for begin, rest in _KINDS.items()}
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|SECRET_?KEY|TOKEN|AUTH_?TOKEN|PASSWORD|KEY)$")
"""Variables of the environment that hold a key."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
"""A string in JSON."""
_NUMBERED = re.compile(
    r"(?:\\u[0-9A-Fa-f]{4}|\\[nrtbf]|[A-Za-z0-9_.-])*\\u[0-9A-Fa-f]{4}(?:\\u[0-9A-Fa-f]{4}|[A-Za-z0-9_.-])*"
)
"""Letters of which some are written as their numbers."""
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|([nrtbf]))")
_LEAST = 16
"""Characters of such a one. Shorter ones are words, as often as not (`postgres`), and not there in every run."""


@final
class KeyFinder:
    """Takes keys out of what one cassette records, and compares.

    The environment is looked at once, when it is made.

    Args:
        more: further ones.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        named = (value for name, value in os.environ.items() if _NAMED.search(name.upper()))
        secrets = (key for key in more if len(key) >= SECRET)
        self._known = sorted({*secrets, *filter(_is_random, named)}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without keys."""
        text = self._plain(text)
        return _NUMBERED.sub(self._numbered, text) if "\\u" in text else text

    def _plain(self, text: str) -> str:
        text = self.blob(text)
        for begin, pattern in _PATTERNS.items():
            if begin in text:
                text = pattern.sub(MARK, text)
        return text

    def _numbered(self, found: re.Match[str]) -> str:
        meant = _ESCAPE.sub(_meant, found[0])
        clean = self._plain(meant)
        return found[0] if clean == meant else json.dumps(clean)[1:-1]

    def written(self, text: str) -> str:
        """A text that is JSON, or is to be, without keys: letters of its strings may be written as their numbers."""
        text = self.text(text)
        return _STRING.sub(self._string, text) if "\\" in text else text

    def _string(self, found: re.Match[str]) -> str:
        try:
            meant = json.loads(found[0])
        except ValueError:
            return found[0]
        clean = self.text(meant)
        return found[0] if clean == meant else json.dumps(clean, ensure_ascii=False)

    def blob(self, text: str) -> str:
        """A text without those keys that are in use."""
        for key in self._in_use():
            text = text.replace(key, MARK)
        return text

    def json(self, value: Json) -> Json:
        """A JSON value without keys, the names of its members included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self.json(inner) for name, inner in value.items()}
            case list():
                return [self.json(inner) for inner in value]
            case _:
                return value

    def _in_use(self) -> Iterable[str]:
        yield from LIVE_KEYS.texts
        yield from self._known


def _meant(escape: re.Match[str]) -> str:
    number, letter = escape.groups()
    return chr(int(number, 16)) if number else {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}[letter]


def _is_random(value: str) -> bool:
    return len(value) >= _LEAST and not re.search(r"\s", value) and bool(re.search(r"\d", value))
