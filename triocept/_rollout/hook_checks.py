"""Check, before an agent with a gate starts, that nothing disables the hook with which the agent asks the gate.

The launch of an agent overrides most settings that disable hooks, and `open_agent` overrides the variables in
`Hook.variables`. This module refuses the rest: variables in `env=`, command-line options, and settings that have
priority over the launch. Most of them were tried with the agents (in the versions that the package `agents` lists); the
others are from the agents' code.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from .._canonical.content import Json
from .hooks import Hook

_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)

_SETS = re.compile(r"\A(?:-c|--config)=?")
"""Option of Codex that sets a value, in the same word as the value's name."""


def check_hook(
    hook: Hook,
    argv: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str | None],
    cwd: str | os.PathLike[str] | None,
) -> None:
    """Raise ValueError if the agent, started with these arguments, would not run `hook`."""
    for problem in _problems(hook, argv, env, Path(cwd or os.curdir).resolve()):
        raise ValueError(
            f"{problem}, so {hook.agent} would run tools without a decision. Remove it, or request no decisions: omit "
            "gate= and approve() (on the command line: --policy and --approve)"
        )


def _problems(
    hook: Hook, argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str | None], project: Path
) -> Iterator[str]:
    words = [_SETS.sub("", os.fspath(word)).partition("=")[0].strip() for word in argv]
    for option, times in hook.options.items():
        if words.count(option) > times:
            yield f"argv contains {option}, which disables hooks"
    for name, value in hook.variables.items():
        if env.get(name) not in (None, "", value):
            yield f"env sets {name}, which disables hooks"
    for file, wanted in [
        (each / name, wanted)
        for each in _folders(hook, argv, project)
        for name, wanted in hook.settings.items()
    ]:
        if not file.is_file():
            continue
        try:
            settings = read_settings(file)
        except (OSError, ValueError, RecursionError) as exc:
            yield f"{file} cannot be checked: {exc}. It could disable hooks"
            continue
        if names := [name for name, value in wanted.items() if not _enables(settings, name, value)]:
            yield f"{file} sets {', '.join(names)}, which disables hooks"


def _folders(hook: Hook, argv: Sequence[str | os.PathLike[str]], project: Path) -> list[Path]:
    """Return the folders whose settings the agent reads. The option -C of Copilot names another working directory."""
    if not hook.reads_repository:
        return [project]
    folders: list[Path] = []
    words = [*(os.fspath(word) for word in argv), ""]
    others = [project / (word[2:] or after) for word, after in pairwise(words) if word.startswith("-C")]
    for start in [project, *(other.resolve() for other in others)]:
        parents = [start, *start.parents]
        root = next((at for at, folder in enumerate(parents) if (folder / ".git").exists()), 0)
        folders += parents[: root + 1]
    return folders


def read_settings(file: Path) -> Json:
    """Return the document in a file: TOML, or JSON with comments. Raise OSError, ValueError or RecursionError."""
    text = file.read_text("utf-8-sig", errors="replace")
    if not text.strip():
        return {}
    if file.suffix == ".toml":
        return tomllib.loads(text)
    document: Json = msgspec.json.decode(_COMMENT.sub(lambda match: match[1] or " ", text))
    return document


def _enables(settings: Json, name: str, value: Json) -> bool:
    """Return True if the setting with this dotted name is missing, or has this value."""
    for key in name.split("."):
        if isinstance(settings, dict):
            if key not in settings:
                return True
            settings = settings[key]
    return isinstance(settings, dict) if value == {} else settings is value
