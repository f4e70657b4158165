"""The refusal of paths that providers serve and no endpoint does; it differs from that of a wrong URL.

They are matched only if no other route matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ..dialects import Dialect
from ..errors import Refusal

_WHAT_THERE_IS = (
    "this endpoint answers model calls, embeddings, moderations, token counts, and the list of models"
)
_NAME = re.compile(r"<(?:(any\([^()]*\)|path|[^<>:]+):)?\w+>")


def refusal_of_unserved(path: str, dialects: Iterable[Dialect]) -> Refusal | None:
    """Return the refusal of this path; None: no provider serves it, either.

    Args:
        path: without a rollout's prefix.
        dialects: all dialects of the endpoint.
    """
    if _pattern(tuple(_paths(dialects))).fullmatch(path) is None:
        return None
    return Refusal(501, f"there is no {path} here: {_WHAT_THERE_IS}", should_retry=False)


def _paths(dialects: Iterable[Dialect]) -> Iterator[str]:
    for dialect in dialects:
        for path in dialect.not_served:
            yield from dict.fromkeys((path, f"{dialect.base_path}{path}"))


@lru_cache(maxsize=8)
def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of these paths and all paths below them."""
    return re.compile(f"(?:{'|'.join(map(_pattern_of, paths)) or '(?!)'})(?:/.*)?", re.DOTALL)


def _pattern_of(path: str) -> str:
    found, at = [], 0
    for name in _NAME.finditer(path):
        found += [re.escape(path[at : name.start()]), _pattern_of_name(name[1])]
        at = name.end()
    return "".join([*found, re.escape(path[at:])])


def _pattern_of_name(kind: str | None) -> str:
    if kind == "path":
        return ".+"
    if kind is not None and kind.startswith("any("):
        return f"(?:{'|'.join(re.escape(each.strip()) for each in kind[4:-1].split(','))})"
    return "[^/]+"
