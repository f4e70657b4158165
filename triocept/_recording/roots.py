"""The directories of an agent, which differ from run to run: where it worked, its home, its configuration.

Agents say them in their prompts, as they are and as slugs (Claude Code 2.1.197: `/home/u/work` is `-home-u-work`), and
models in the arguments of their calls. To compare two runs they are masked; what was recorded is given to a live agent
with its own directories in the place of the recorded ones.

Rules:

1. The longest first: a working directory lies in the home, most often.
2. A whole name or nothing: `/home/u` is not in `/home/u2`.
3. Two spellings of a directory are masked: as it was given, and without `..` and symbolic links. Agents use both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from .._canonical.content import Json

MASK = "<root>"
_FIELDS = ("cwd", "home", "config")


class Started(Protocol):
    """What is known of an agent's process."""

    @property
    def cwd(self) -> str: ...
    @property
    def home(self) -> str | None: ...
    @property
    def config(self) -> str | None:
        """Where its configuration is."""


def slug(path: str) -> str:
    """A path as the name of one file."""
    return re.sub(r"[^A-Za-z0-9]", "-", path)


def roots_of(agents: Iterable[Started]) -> list[dict[str, str]]:
    """For each agent its directories, by what they are to it."""
    found: list[dict[str, str]] = []
    for agent in agents:
        roots = {name: path.rstrip("/") for name in _FIELDS if (path := getattr(agent, name))}
        real = {f"real {name}": os.path.realpath(path) for name, path in roots.items() if path}
        found.append({name: path for name, path in (roots | real).items() if path.strip("/")})
    return found


def in_json(value: Json, change: Callable[[str], str]) -> Json:
    """A JSON value, its texts changed; names are left as they are."""
    match value:
        case str():
            return change(value)
        case dict():
            return {name: in_json(inner, change) for name, inner in value.items()}
        case list():
            return [in_json(inner, change) for inner in value]
        case _:
            return value


def mask_of(roots: Iterable[Mapping[str, str]]) -> Callable[[str], str]:
    """A function that takes these directories out of a text: one mask for all of them, since two may be the same
    directory in one run and not in the other."""
    return _replacing({path: MASK for each in roots for path in each.values()}, {})


def translation(
    recorded: Iterable[Mapping[str, str]], live: Iterable[Mapping[str, str]], more: Mapping[str, str]
) -> Callable[[str], str]:
    """A function that puts live directories in the place of recorded ones.

    Args:
        recorded, live: of agent by agent, in the order in which they were started.
        more: further ones, that win: recorded to live.
    """
    pairs: dict[str, str] = {}
    for before, now in zip(recorded, live, strict=False):
        for name in before:
            if name in now:
                pairs.setdefault(before[name], now[name])
    pairs |= {before.rstrip("/"): now.rstrip("/") for before, now in more.items()}
    moved = {before: now for before, now in pairs.items() if before != now}
    return _replacing(moved, {slug(before): slug(now) for before, now in moved.items()})


def _replacing(paths: Mapping[str, str], slugs: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces these, paths and slugs; slugs of paths that have none are replaced as they are."""
    table = {slug(path): new for path, new in paths.items()} | dict(slugs) | dict(paths)
    if not table:
        return lambda text: text
    words = sorted(table, key=len, reverse=True)
    # A slug goes on with `-` where the path goes on with `/`.
    ends = (f"{re.escape(word)}(?![A-Za-z0-9_{'' if word not in paths else '-'}])" for word in words)
    pattern = re.compile(rf"(?<![A-Za-z0-9_.-])(?:{'|'.join(ends)})")
    return lambda text: pattern.sub(lambda found: table[found[0]], text)
