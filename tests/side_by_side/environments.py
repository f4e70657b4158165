"""Virtual environments, and aimock's server from npm: made where there are none of just these versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .tools import PACKAGES, Tool

ROOT = Path(__file__).parents[2]
INSTALL = 900
"""Seconds."""


def folder() -> Path:
    """`TRIOCEPT_SUITES_DIR`, or a directory beside nox's environments."""
    found = Path(os.environ.get("TRIOCEPT_SUITES_DIR", ROOT / ".nox" / "suites-cache")).absolute()
    found.mkdir(parents=True, exist_ok=True)
    return found


def interpreter(name: str, requirements: Sequence[str], wheel: Path | None = None) -> Path:
    """The Python of an environment that has just this, and the wheel as it is now."""
    place = folder() / name
    python = place / "bin" / "python"
    made = place / "requirements.txt"
    wanted = "\n".join([*requirements, *(["triocept"] if wheel else [])])
    if not made.exists() or made.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", place])
        _run([python, "-m", "pip", "install", "-q", *requirements, *([wheel] if wheel else [])])
        made.write_text(wanted)
    elif wheel is not None:
        _run([python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel])
        _run([python, "-m", "pip", "install", "-q", wheel])  # what it did not need before
    return python


def interpreter_of(tool: Tool, wheel: Path | None) -> Path:
    """The environment of a tool."""
    return interpreter(tool.key, tool.requirements, None if tool.plugin else wheel)


def build_wheel() -> Path:
    """The wheel of this checkout."""
    place = folder() / "wheel"
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", place, ROOT])
    (wheel,) = place.glob("*.whl")
    return wheel


def aimock_environ() -> dict[str, str]:
    """What tells aimock-pytest where its server is, which it would otherwise load by itself."""
    return {"AIMOCK_CLI_PATH": str(node_modules() / "@copilotkit" / "aimock" / "dist" / "cli.js")}


def node_modules() -> Path:
    """The folder with the packages from npm."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("two packages come from npm, which is not on this machine")
    prefix = folder() / "npm"
    made = prefix / "packages.txt"
    if not made.exists() or made.read_text() != "\n".join(PACKAGES):
        prefix.mkdir(exist_ok=True)
        _run([npm, "install", "--prefix", prefix, "--no-fund", "--no-audit", "--silent", *PACKAGES])
        made.write_text("\n".join(PACKAGES))
    return prefix / "node_modules"


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL)
