"""Remove the provider's API key from texts of the provider, because some error messages repeat the key.

Rules:

1. A key is removed only if it can be a secret (see `_util.secrets`). A key such as "x" or "EMPTY" is not removed. Such
   a key also occurs in ordinary words, and without these words an error would be unreadable.
2. A key of fewer than `LONG` characters is removed only where the key is a whole word. A longer key is removed
   everywhere, because no word contains a long key by chance.
3. In a JSON document, only the strings that contain the key are decoded, changed and encoded again. The result is JSON,
   and all other bytes stay the same.
4. The kind of an error is determined before the key is removed, from the provider's original message.
"""

from __future__ import annotations

import re

from .._util.secrets import MARK, SECRET
from ..dialects._documents import decode_json, encode_json
from ..errors import DialectError

LONG = 16
"""Minimum characters of a key that is also removed within a word. Providers' own keys have at least 32 characters."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
"""Pattern of a string in a valid JSON document."""


class Redaction:
    """Removes one API key from texts and JSON documents. `key=None` means that there is no key to remove."""

    def __init__(self, key: str | None) -> None:
        secret = key if key is not None and len(key) >= SECRET else None
        # A dialect may quote a JSON document in the message of an error: the key in it has JSON escapes.
        self._forms = () if secret is None else tuple({secret, encode_json(secret)[1:-1].decode()})
        either = "|".join(map(re.escape, sorted(self._forms, key=len, reverse=True)))
        whole_word = rf"(?<!\w)(?:{either})(?!\w)"
        self._pattern = re.compile(either if len(secret or "") >= LONG else whole_word)

    def text(self, text: str) -> str:
        return self._pattern.sub(MARK, text) if self._is_in(text) else text

    def document(self, text: str) -> str:
        """Return a JSON document without the key. A text that is not JSON is treated as plain text."""
        if not self._may_be_in(text):
            return text
        try:
            decode_json(text)
        except DialectError:
            return self.text(text)

        def without_key(found: re.Match[str]) -> str:
            if not self._may_be_in(found[0]):
                return found[0]
            string = decode_json(found[0])
            clean = self.text(string) if isinstance(string, str) else string
            return found[0] if clean == string else encode_json(clean).decode()

        return _STRING.sub(without_key, text)

    def _is_in(self, text: str) -> bool:
        return any(form in text for form in self._forms)

    def _may_be_in(self, text: str) -> bool:
        """Return True if `text` could contain the key, unchanged or with JSON escapes."""
        return bool(self._forms) and ("\\" in text or self._is_in(text))
