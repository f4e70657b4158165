"""The tests in JavaScript, Go and Java of the docs, as the command of `triocept run`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .environments import node_modules
from .running import Failed

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "other_languages"
COMMANDS = {
    "JavaScript": ("node", "--test", "desk.test.mjs"),
    "Go": ("go", "test", "./..."),
    "Java": ("java", "Desk.java"),
}
SIGNS = {"JavaScript": "# pass 4", "Go": "ok  \tdesk", "Java": "1 passed"}
"""What is printed where tests were really run."""
LIMIT = 300
"""Seconds for each: Go compiles its library at first."""


def run_languages(python: Path) -> Iterator[str]:
    """Run the tests of each language that this machine has, and return a line for each."""
    for language, command in COMMANDS.items():
        if shutil.which(command[0]) is None:
            yield f"{language} was NOT tried: this machine has no `{command[0]}`"
        else:
            _run(python, language, command)
            yield f"{language}: passed"


def _run(python: Path, language: str, command: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "desk"
        shutil.copytree(EXAMPLES, folder)
        (folder / "node_modules").symlink_to(node_modules())
        (folder / "go.mod").write_text("module desk\n\ngo 1.19\n")
        done = subprocess.run(
            [python, "-m", "triocept", "run", "--quiet", "--script", "desk.yaml", "--", *command],
            cwd=folder,
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-count=1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    if done.returncode or SIGNS[language] not in done.stdout:
        raise Failed(f"{language}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
