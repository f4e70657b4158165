"""Ids: fresh ones, and legal ones for ids that a wire does not allow."""

from __future__ import annotations

import hashlib
import re
from uuid import uuid4

__all__ = ["fresh_id", "legal_id", "short_id"]

_LEGAL = re.compile(r"[a-zA-Z0-9_-]+").fullmatch  # Anthropic's rule for tool ids


def fresh_id(prefix: str) -> str:
    """A new id, e.g. `fresh_id("call_")`."""
    return prefix + uuid4().hex[:24]


def legal_id(given: str, prefix: str) -> str:
    """`given` if it is legal everywhere, else another that is: the same one for a call and its result."""
    if _LEGAL(given):
        return given
    return prefix + hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:24]


def short_id(given: str, prefix: str, limit: int = 64) -> str:
    """`given` if it has 1 to `limit` characters, else another that has: the same one for a call and its result."""
    return given if 0 < len(given) <= limit else legal_id(f" {given}" if given else "", prefix)
