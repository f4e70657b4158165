"""Keys in what is recorded, found and taken out.

Rules:

1. A key is what looks like one of a known kind; and whatever is in use: a provider's that an upstream holds, or the
   value of a variable of the environment that is named as one.
2. It is taken out on both sides: of what is recorded, and of what is compared with it. So a run with another key, or
   none, still matches.
3. Signatures and other blobs are searched for keys in use alone: they are random, and may look like anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import final

from ..._canonical.content import Json
from ..._secrets import LIVE_KEYS, MARK, SECRET

__all__ = ["KeyFinder"]

_KINDS = (
    r"(?<![A-Za-z0-9_-])(?:sk|rk|pk)-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic, OpenRouter, triocept
    r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}",  # Google
    r"(?<![A-Za-z0-9])(?:gsk|hf|xai|nvapi|r8|pplx)[_-](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
    r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})",
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS
    r"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{20,}",  # Slack
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # a JSON web token
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
)
_pattern = re.compile("|".join(_KINDS))
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|SECRET_?KEY|TOKEN|AUTH_?TOKEN|PASSWORD|KEY)$")
"""Variables of the environment that hold a key."""
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
        return _pattern.sub(MARK, self.blob(text))

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
        yield from LIVE_KEYS
        yield from self._known


def _is_random(value: str) -> bool:
    return len(value) >= _LEAST and not re.search(r"\s", value) and bool(re.search(r"\d", value))
