"""The environments of the projects: a pytest, a plugin or two of others, and triocept from its wheel."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SDKS = ("openai>=2", "anthropic>=1")
REQUIREMENTS = {
    "pytest 8": ("pytest>=8.4,<9",),
    "pytest 9": ("pytest>=9,<10",),
    "xdist": ("pytest>=8.4", "pytest-xdist>=3.6"),
    "asyncio": ("pytest>=8.4", "pytest-asyncio>=1.2"),
    "anyio": ("pytest>=8.4", "anyio[trio]>=4.9"),
    "trio": ("pytest>=8.4", "pytest-trio>=0.8"),
    "timeout": ("pytest>=8.4", "pytest-timeout>=2.4"),
    "reruns": ("pytest>=8.4", "pytest-rerunfailures>=15"),
}
"""By the name of an environment."""
INSTALL = 600
"""Seconds."""


def folder() -> Path:
    """`TRIOCEPT_PLUGIN_DIR`, or a directory beside nox's environments."""
    found = Path(os.environ.get("TRIOCEPT_PLUGIN_DIR", ROOT / ".nox" / "plugin-cache")).absolute()
    found.mkdir(parents=True, exist_ok=True)
    return found


def build_wheel(place: Path) -> Path:
    """The wheel of this checkout, as it is published."""
    _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, ROOT])
    (wheel,) = place.glob("triocept-*.whl")
    return wheel


class Environment:
    """A virtual environment of this name with this wheel in it, kept until its requirements change."""

    def __init__(self, name: str, wheel: Path) -> None:
        self.name = name
        self._place = folder() / name.replace(" ", "-")
        self.python = self._place / "bin" / "python"
        requirements = (*REQUIREMENTS[name], *SDKS)
        self._make([*requirements, sys.version])
        self._install(requirements, wheel)

    def _make(self, facts: Sequence[str]) -> None:
        made = self._place / "made-of.txt"
        if not made.exists() or made.read_text() != "\n".join(facts):
            shutil.rmtree(self._place, ignore_errors=True)
            _run([sys.executable, "-m", "venv", self._place])
            made.write_text("\n".join(facts))

    def _install(self, requirements: Sequence[str], wheel: Path) -> None:
        """The wheel anew, and what it needs where that is not there yet."""
        holds = self._place / "holds.txt"
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if holds.exists() and holds.read_text() == digest:
            return
        holds.unlink(missing_ok=True)
        pip = [self.python, "-m", "pip", "install", "-q"]
        _run([*pip, *requirements, wheel])
        _run([*pip, "--no-deps", "--force-reinstall", wheel])
        holds.write_text(digest)

    def without_triocept(self, place: Path) -> Path:
        """The Python of a copy of it, from which triocept is taken out: all else is the same, to the byte."""
        shutil.copytree(self._place, place, symlinks=True)
        for path in place.glob("lib/python*/site-packages/triocept*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return place / "bin" / "python"

    def versions(self) -> str:
        """What is installed, for whoever reads of the run."""
        frozen = subprocess.run(
            [self.python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True, timeout=60
        )
        return ", ".join(
            line
            for line in frozen.stdout.splitlines()
            if line.startswith(("pytest", "anyio", "trio=", "openai", "anthropic"))
        )


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL, stdout=subprocess.DEVNULL)
