"""The command that starts an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import msgspec

Directory: TypeAlias = str | os.PathLike[str]
"""Directory of an agent's configuration; created if it does not exist."""
UsualDialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
"""The dialects that most agents with several dialects support."""


@final
class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A command and the additions to its environment: the arguments of `rollout.run_agent`."""

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = {}
    ungated: tuple[str, ...] = ()
    """Tools for which the agent runs no hook: the gate is not asked about them, and `approve` decides in the answer."""

    def __repr__(self) -> str:
        return f"Launch(argv={self.argv!r}, env of {', '.join(sorted(self.env)) or 'nothing'})"


def made(directory: Directory) -> Path:
    """Return the directory's absolute path (the agent may run elsewhere), created: qwen-code requires a HOME."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    return path.absolute()


def write_text(path: Path, text: str) -> Path:
    """Write a configuration file that only this user can read: it may contain the rollout's key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def write_json(path: Path, document: Any) -> Path:
    """Write a JSON file that only this user can read."""
    return write_text(path, json.dumps(document, indent=2) + "\n")
