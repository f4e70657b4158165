"""Where the real agents are kept and run. `TRIOCEPT_AGENTS_DIR` says where they are installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real_agents.stage import Stage


@pytest.fixture(scope="session")
def agents_dir() -> Path:
    default = Path(__file__).parents[2] / ".nox" / "agents-cache"
    folder = Path(os.environ.get("TRIOCEPT_AGENTS_DIR", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)
