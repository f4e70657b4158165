"""Results of runs, each with its date, commit, machine, and load average (of five minutes) at the end."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs")


def save(name: str, figures: Any) -> Path:
    """Write the figures of a run to `bench/runs/<name>.json`."""
    RUNS.mkdir(exist_ok=True)
    path = RUNS / f"{name}.json"
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[1]),
        "figures": figures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def add(name: str, figures: dict[str, dict[str, Any]]) -> Path:
    """Write the figures of a run, by row and peer; other figures of earlier runs at the same commit are kept."""
    path = RUNS / f"{name}.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = earlier["figures"] if earlier.get("commit") == commit() else {}
    return save(name, kept | {row: kept.get(row, {}) | found for row, found in figures.items()})


def commit() -> str:
    """Return the commit of this checkout; with `+` if the library has changes that are in no commit."""
    root = Path(__file__).parents[1]
    found = _git(root, "rev-parse", "--short=8", "HEAD")
    return f"{found}+" if _git(root, "status", "--porcelain", "--", "triocept") else found


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
