"""The provider's key, taken out of what the provider says: some repeat it.

Rules:

1. Only what can be a secret is one (see `_util.secrets`): an error would be unreadable without ordinary words and
   numbers.
2. A key is a word of its own, unless it is so long that nothing else holds it.
3. Of a document only strings are touched, each once it is read: what was JSON is JSON afterwards, and all else in it is
   there byte for byte.
4. What an error means is found out before, from the provider's own words.
"""

from __future__ import annotations

import re

from .._util.secrets import MARK, SECRET
from ..dialects._documents import decode_json, encode_json
from ..errors import DialectError

LONG = 16
"""Characters. From here on a key is taken out of the middle of a word too; providers' own have 32 and more."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
"""A string in a document that is known to be JSON."""


class Redaction:
    """What takes one key out of texts and documents.

    Args:
        key: printable ASCII; None: there is none.
    """

    def __init__(self, key: str | None) -> None:
        secret = key if key is not None and len(key) >= SECRET else None
        # A dialect may quote a document as the words of an error: the key is in its escapes there.
        self._forms = () if secret is None else tuple({secret, encode_json(secret)[1:-1].decode()})
        either = "|".join(map(re.escape, sorted(self._forms, key=len, reverse=True)))
        whole_word = rf"(?<!\w)(?:{either})(?!\w)"
        self._pattern = re.compile(either if len(secret or "") >= LONG else whole_word)

    def text(self, text: str) -> str:
        """Words, without the key."""
        return self._pattern.sub(MARK, text) if self._is_in(text) else text

    def document(self, text: str) -> str:
        """A document without the key; text that is no JSON is words."""
        if not self._may_be_in(text):
            return text
        try:
            decode_json(text)
        except DialectError:
            return self.text(text)
        return _STRING.sub(self._string, text)

    def _string(self, found: re.Match[str]) -> str:
        if not self._may_be_in(found[0]):
            return found[0]
        said = decode_json(found[0])
        clean = self.text(said) if isinstance(said, str) else said
        return found[0] if clean == said else encode_json(clean).decode()

    def _is_in(self, text: str) -> bool:
        return any(form in text for form in self._forms)

    def _may_be_in(self, text: str) -> bool:
        """JSON has several ways to write one string."""
        return bool(self._forms) and ("\\" in text or self._is_in(text))
