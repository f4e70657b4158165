"""Which path is whose: the rollout's prefix, then the dialect's usual path, with or without `/v1`.

Paths are read before any key was seen. What is kept of them for the next call is small, whoever sent them, and no query
that could hold a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

from .._trace.conversation import CallKind
from ..dialects import Dialect, Target

__all__ = ["Route", "Routes", "asked_dialect", "split_rollout"]

_LONGEST_KEPT = 128
"""Characters of a path; real ones have some 50."""
_KEPT_QUERIES = frozenset({"", "beta=true", "alt=sse"})
"""Those of Claude Code and of the Gemini SDKs."""
_PREFIX = re.compile(r"^/rollout/(?P<id>[^/]+)(?P<rest>/.*)?$")


@dataclass(frozen=True)
class Route:
    """A model call's path, read."""

    dialect: Dialect
    target: Target
    rollout_id: str | None
    """The id in the path, or None where the key alone chooses."""
    kind: CallKind | None = None
    """Whose call it is, where the path says so: `…/model` is for a tool's."""


class Routes:
    """The paths of the model calls of these dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.dialects = tuple(dialects)
        self._by_name = {dialect.name: dialect for dialect in self.dialects}
        self._match_again = lru_cache(maxsize=4096)(self._match)

    def match(self, path: str, query: str) -> Route | None:
        """Whose model call this is; None if it is none."""
        if len(path) <= _LONGEST_KEPT and query in _KEPT_QUERIES:
            return self._match_again(path, query)
        return self._match(path, query)

    def _match(self, path: str, query: str) -> Route | None:
        rollout_id, rest = split_rollout(path)
        if rest == "/model":
            asking = self._by_name.get(asked_dialect(query))
            return Route(asking, Target(), rollout_id, "tool") if asking is not None else None
        for dialect in self.dialects:
            if (target := dialect.match(rest, query)) is not None:
                return Route(dialect, target, rollout_id)
        return None


def asked_dialect(query: str) -> str:
    """The dialect that a service's query asks for: `?dialect=…`, by default `openai_chat`."""
    return parse_qs(query).get("dialect", ["openai_chat"])[-1]


def split_rollout(path: str) -> tuple[str | None, str]:
    """The rollout's id in a path, or None, and the path without it."""
    if match := _PREFIX.match(path):
        return match["id"], match["rest"] or "/"
    return None, path
