"""The directories of an agent, which differ from run to run: its working directory, home and configuration.

Agents put them into their prompts, unchanged and as slugs (Claude Code 2.1.197: `/home/u/work` is `-home-u-work`), and
models into the arguments of their calls. To compare two runs the directories are masked; a live agent gets a recording
with its own directories instead of the recorded ones.

Rules:

1. The longest directory is replaced first: a working directory is usually below the home.
2. Only complete names are replaced: `/home/u` is not in `/home/u2`.
3. Two spellings of a directory are masked: as given, and without `..` and symbolic links. Agents use both.
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
    """The known facts of an agent's process."""

    @property
    def cwd(self) -> str: ...
    @property
    def home(self) -> str | None: ...
    @property
    def config(self) -> str | None:
        """Directory of its configuration."""


def slug(path: str) -> str:
    """Return a path as the name of one file."""
    return re.sub(r"[^A-Za-z0-9]", "-", path)


def roots_of(agents: Iterable[Started]) -> list[dict[str, str]]:
    """Return the directories of each agent, by their purpose."""
    found: list[dict[str, str]] = []
    for agent in agents:
        roots = {name: path.rstrip("/") for name in _FIELDS if (path := getattr(agent, name))}
        real = {f"real {name}": os.path.realpath(path) for name, path in roots.items() if path}
        found.append({name: path for name, path in (roots | real).items() if path.strip("/")})
    return found


def in_json(value: Json, change: Callable[[str], str]) -> Json:
    """Return a JSON value with changed texts; names are unchanged."""
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
    """Return a function that masks these directories in a text.

    All have one mask, since two may be one directory in one run and not in the other."""
    return _replacing({path: MASK for each in roots for path in each.values()}, {})


def translation(
    recorded: Iterable[Mapping[str, str]], live: Iterable[Mapping[str, str]], more: Mapping[str, str]
) -> Callable[[str], str]:
    """Return a function that replaces recorded directories by live directories.

    Args:
        recorded, live: directories of each agent, in the order in which the agents were started.
        more: further directories, which take precedence: recorded to live.
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
    """Return a function that replaces these paths and slugs; a slug without an entry becomes the new path."""
    table = {slug(path): new for path, new in paths.items()} | dict(slugs) | dict(paths)
    if not table:
        return lambda text: text
    words = sorted(table, key=len, reverse=True)
    # A slug continues with `-` where the path continues with `/`.
    ends = (f"{re.escape(word)}(?![A-Za-z0-9_{'' if word not in paths else '-'}])" for word in words)
    pattern = re.compile(rf"(?<![A-Za-z0-9_.-])(?:{'|'.join(ends)})")
    return lambda text: pattern.sub(lambda found: table[found[0]], text)
