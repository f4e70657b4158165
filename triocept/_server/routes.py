"""Which path is whose: the rollout's prefix, then the dialect's usual path, with or without `/v1`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..dialects.base import Dialect, Target

__all__ = ["Route", "Routes", "split_rollout"]

_PREFIX = re.compile(r"^/rollout/(?P<id>[^/]+)(?P<rest>/.*)?$")


@dataclass(frozen=True)
class Route:
    """A model call's path, read."""

    dialect: Dialect
    target: Target
    rollout_id: str | None
    """The id in the path, or None where the key alone chooses."""


class Routes:
    """The paths of the model calls of these dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._dialects = tuple(dialects)

    def match(self, path: str, query: str) -> Route | None:
        """Whose model call this is; None if it is none."""
        rollout_id, rest = split_rollout(path)
        for dialect in self._dialects:
            if (target := dialect.match(rest, query)) is not None:
                return Route(dialect, target, rollout_id)
        return None


def split_rollout(path: str) -> tuple[str | None, str]:
    """The rollout's id in a path, or None, and the path without it."""
    if match := _PREFIX.match(path):
        return match["id"], match["rest"] or "/"
    return None, path
