"""Read task folders in Harbor's format, which contain `task.toml`, an instruction, `environment/` and `tests/test.sh`.

Tasks run on this machine and not in a container; no container is built. The files of `environment/`, except the
Dockerfile, are copied into the agent's working directory. The scorer `harbor_reward` runs the tests.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .reading import BadTasks

_CANARY = re.compile(r"\A(?:\s*(?:<!--|#)[^\n]*canary[^\n]*\n)+", re.IGNORECASE)
"""Lines at the start of an instruction that mark it as test data. Like Harbor, triocept removes these lines."""
_NOT_COPIED = re.compile(r"Dockerfile.*|docker-compose.*|compose\.ya?ml")


def read(path: Path) -> Iterator[tuple[str, object]]:
    folders = (
        [path] if (path / "task.toml").exists() else sorted(each.parent for each in path.glob("*/task.toml"))
    )
    if not folders:
        raise BadTasks(f"{path}: it is neither a task folder of Harbor (task.toml) nor a folder of datasets")
    for folder in folders:
        try:
            yield str(folder), _document(folder)
        except (OSError, ValueError) as exc:
            yield str(folder), exc


def _document(folder: Path) -> dict[str, Any]:
    try:
        config = tomllib.loads((folder / "task.toml").read_text())
    except ValueError as exc:
        raise ValueError(f"task.toml: {exc}") from None
    if not (folder / "tests/test.sh").exists():
        steps = "; tasks of several steps are not supported" if (folder / "steps").exists() else ""
        raise ValueError(f"it has no tests/test.sh{steps}")
    verifier = config.get("verifier", {})
    environment = folder / "environment"
    there = sorted(environment.iterdir()) if environment.is_dir() else []
    return {
        "id": config.get("task", {}).get("name") or folder.name,
        "prompt": _CANARY.sub("", (folder / "instruction").with_suffix(".md").read_text()),
        "files": {each.name: str(each.absolute()) for each in there if not _NOT_COPIED.fullmatch(each.name)},
        "time_limit": config.get("agent", {}).get("timeout_sec"),
        "scorer_timeout": verifier.get("timeout_sec", 600.0),
        "metadata": {
            **config.get("metadata", {}),
            "harbor": {"folder": str(folder.absolute()), "env": verifier.get("env", {})},
        },
    }
