"""Mask parts of texts that differ from run to run although the agent and its task have not changed.

1. Directories of the agent: its working directory, home and configuration. Agents put them into their prompts,
   unchanged or as slugs (Claude Code 2.1.197 writes `-home-u-work` for `/home/u/work`), and models put them into the
   arguments of tool calls. Before two runs are compared, the directories are masked. In a recorded answer, the live
   agent's directories replace the recorded directories. The longest directory is replaced first, because a working
   directory is usually below the home. Only complete names are replaced: `/home/u` is not replaced in `/home/u2`. Two
   spellings are masked: the path as given, and the path without `..` and symbolic links.
2. Dates, times, durations, ids. The prompts of Claude Code 2.1.197, Codex 0.169 and opencode 1.18 contain the date in
   some form, and new ids for conversations, tasks and items.
3. The state of the working directory, which the run itself changes: a git snapshot (Claude Code 2.1.197 and 2.1.332,
   qwen-code 0.24.4, Continue 1.5.47) and a listing of files (gemini-cli 0.61.0, qwen-code 0.15.10, kimi-cli 1.39.0,
   kimi-code 2.1.0).
4. The relative path from the working directory up to the home (qwen-code: `../../home/.qwen/…`).
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
    """The known directories of an agent process."""

    @property
    def cwd(self) -> str: ...
    @property
    def home(self) -> str | None: ...
    @property
    def config(self) -> str | None:
        """Directory of the agent's configuration; None if unknown."""


def slug(path: str) -> str:
    """Return `path` with `-` in place of each character that is no letter or digit.

    Some agents use such texts as names of their files and directories.
    """
    return re.sub(r"[^A-Za-z0-9]", "-", path)


def roots_of(agents: Iterable[Started]) -> list[dict[str, str]]:
    """Return the directories of each agent as a dict, by the names `cwd`, `home`, `config`, `real cwd`, …."""
    found: list[dict[str, str]] = []
    for agent in agents:
        roots = {name: path.rstrip("/") for name in _FIELDS if (path := getattr(agent, name))}
        real = {f"real {name}": os.path.realpath(path) for name, path in roots.items() if path}
        found.append({name: path for name, path in (roots | real).items() if path.strip("/")})
    return found


def in_json(value: Json, change: Callable[[str], str]) -> Json:
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
    """Return a function that replaces the directories `roots` in a text by `<root>`.

    All directories get the same replacement, because two of them may be equal in one run and differ in another run.
    """
    return _replacing({path: MASK for each in roots for path in each.values()}, {})


def translation(
    recorded: Iterable[Mapping[str, str]], live: Iterable[Mapping[str, str]], more: Mapping[str, str]
) -> Callable[[str], str]:
    """Return a function that replaces recorded directories in a text by live directories.

    Args:
        recorded: the directories of each recorded agent, in the order in which the agents were started.
        live: the directories of each live agent, in the same order.
        more: further recorded directories, each with the live directory that replaces it. They take precedence.
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
    """Return a function that replaces `paths`, and their slugs, in a text.

    Args:
        paths: for each path, the text that replaces it.
        slugs: for each slug of these paths, the text that replaces it. A slug that is not in `slugs` is replaced by the
            same text as its path.
    """
    table = {slug(path): new for path, new in paths.items()} | dict(slugs) | dict(paths)
    if not table:
        return lambda text: text
    words = sorted(table, key=len, reverse=True)
    # A slug continues with `-` where the path continues with `/`.
    ends = (f"{re.escape(word)}(?![A-Za-z0-9_{'' if word not in paths else '-'}])" for word in words)
    pattern = re.compile(rf"(?<![A-Za-z0-9_.-])(?:{'|'.join(ends)})")
    return lambda text: pattern.sub(lambda found: table[found[0]], text)


_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AP]M)?"
_PATTERNS = {
    # Claude Code, and qwen-code (`git: ` before each line), up to the last commit; Continue
    "git": r"(?m:^)(?:git: )?Current branch: [^\n]*\n(?:[^\n]*\n){0,500}?(?:git: )?Recent commits:"
    r"(?:\n(?:git: )?[0-9a-f]{4,40} [^\n]*)*"
    r"|(?<=<context name=\"gitStatus\">)[^<]*(?=</context>)",
    # gemini-cli and qwen-code; kimi-cli and kimi-code
    "files": r"(?m:^)Showing up to \d+ items[^\n]*\n\n[^\n]*/(?:\n(?:│   |    |├───|└───)[^\n]*)*"
    r"|(?<=directory listing of current working directory is:\n\n)```\n(?:[^\n]*\n){0,2000}?(?=```)",
    "up": r"(?<![\w./-])(?:\.\./)++(?:[^\s/]{1,255}/){0,16}?(?=\.[A-Za-z])",
    "uuid": r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    "date": rf"\b\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?)?\b"
    # `Thu Nov 26 2026`, `Thu Nov 26 20:15:32 UTC 2026`, `Thursday, November 26, 2026`
    rf"|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +{_MONTH} +\d{{1,2}}(?: {_CLOCK}(?: [A-Z]{{3,4}})?)?(?:,? \d{{4}})?\b"
    rf"|\b{_MONTH} +\d{{1,2}},? +(?:{_CLOCK}|\d{{4}})\b",  # as `ls -l` has it
    "time": rf"\b{_CLOCK}\b",
    "duration": r"\b\d+(?:\.\d+)? ?(?:ms|s|secs?|seconds?|minutes?)\b",
    "id": r"\b(?:call|toolu|fc|fco|ctc|msg|ses|prt|rs|resp|req|run|task)_[A-Za-z0-9_]+\b"
    r"|\b[a-z]{1,8}_[0-9a-f]{12,}\b"  # triocept's own ids, which errors contain
    r"|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b",
    "number": r"(?<=>)\d+(?:\.\d+)?(?=</)"  # alone in a tag: tokens, milliseconds
    r"|(?<=\bPID: )\d+|(?<=\bPGID: )\d+",  # of a process: gemini-cli 0.61.0 ends each command's output with it
}
_pattern = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS.items()))


def without_volatile(text: str) -> str:
    return _pattern.sub(lambda found: f"<{found.lastgroup}>", text)
