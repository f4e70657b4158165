"""The rules of axe-core for accessible pages, from npm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.packages import ROOT, UNPINNED, InstallFailed, npm_install

VERSION = "4.14.1"


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the script of axe-core. It is installed once, in `.nox/axe-cache` (`TRIOCEPT_AXE_DIR`: elsewhere)."""
    if shutil.which("npm") is None:
        pytest.skip("this machine has no npm, so axe-core cannot be installed: accessibility was NOT tested")
    prefix = Path(os.environ.get("TRIOCEPT_AXE_DIR") or ROOT / ".nox" / "axe-cache")
    script = prefix / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        try:
            npm_install(prefix, f"axe-core@{'*' if UNPINNED else VERSION}")
        except InstallFailed as exc:
            pytest.skip(f"axe-core cannot be installed, so accessibility was NOT tested: {exc}")
    return script.read_text()
