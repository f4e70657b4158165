"""What starts an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import msgspec

Directory: TypeAlias = str | os.PathLike[str]
"""Where an agent's configuration goes; made if it is not there."""
UsualDialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
"""What most agents of several dialects can be told to speak."""


@final
class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what is added to its environment: the arguments of `rollout.run_agent`."""

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = {}

    def __repr__(self) -> str:
        return f"Launch(argv={self.argv!r}, env of {', '.join(sorted(self.env)) or 'nothing'})"


def made(directory: Directory) -> Path:
    """The directory, made if it is not there (qwen-code wants its HOME to exist), and absolute: the agent may work
    elsewhere.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    return path.absolute()


def write_text(path: Path, text: str) -> Path:
    """Write a configuration file, for this user's eyes only: it may hold the rollout's key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def write_json(path: Path, document: Any) -> Path:
    """The same, of JSON."""
    return write_text(path, json.dumps(document, indent=2) + "\n")
