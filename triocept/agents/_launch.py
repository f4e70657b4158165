"""The class `Launch` (the command that starts an agent), and helpers that write an agent's files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import msgspec

Directory: TypeAlias = str | os.PathLike[str]
"""Directory for an agent's configuration. If the directory does not exist, it is created."""
UsualDialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
"""The dialects from which an agent's argument `dialect` is chosen, for agents that support all three of them."""


@final
class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The command that starts an agent, and environment variables for it; both are arguments of `rollout.run_agent`."""

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = {}
    ungated: tuple[str, ...] = ()
    """Tools for which the agent runs no hook, so that the gate cannot decide about their calls. For these calls,
    `approve` decides when it finds them in the model's answer, before the agent receives the answer."""

    def __repr__(self) -> str:
        return f"Launch(argv={self.argv!r}, env of {', '.join(sorted(self.env)) or 'nothing'})"


def made(directory: Directory) -> Path:
    """Create `directory`, and return its absolute path.

    The path is absolute because the agent may run in another directory.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    return path.absolute()


def write_text(path: Path, text: str) -> Path:
    """Write a configuration file that only this user can read, because the file could contain the rollout's key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def write_json(path: Path, document: Any) -> Path:
    return write_text(path, json.dumps(document, indent=2) + "\n")
