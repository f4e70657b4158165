"""Where the real agents are kept: see `installed`.

Not collected by the test suite: `nox -s agents` runs all of it, `nox -s agents_ci` what is marked `ci`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real_agents.cases import LIBRARIES, NEWER, SOURCES
from tests.real_agents.installed import CannotInstall, agents_folder, installed, versions
from tests.real_agents.play import Calls
from tests.real_agents.stage import Stage

_HOG = "import time; end = time.monotonic() + 7200\nwhile time.monotonic() < end: pass"
"""A program that takes a processor, and stops by itself."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ci: also in the test command")
    config.addinivalue_line("markers", "slow: a minute and more; only in `nox -s agents`")


def pytest_report_header() -> str:
    return f"agents: {versions(agents_folder())}"


@pytest.fixture(scope="session")
def executable_of() -> Callable[[str], Path]:
    """The command of an agent, installed where it is not; the test is skipped where it cannot be."""

    def executable(agent: str) -> Path:
        try:
            return installed((SOURCES | LIBRARIES | NEWER)[agent], agents_folder())
        except CannotInstall as exc:
            pytest.skip(str(exc))

    return executable


@pytest.fixture(scope="session")
def hogs() -> Iterator[None]:
    """`TRIOCEPT_HOGS` busy programs (default: none) beside the tests."""
    busy = [
        subprocess.Popen([sys.executable, "-c", _HOG])
        for _ in range(int(os.environ.get("TRIOCEPT_HOGS", "0")))
    ]
    yield
    for hog in busy:
        hog.kill()
        hog.wait()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts the model calls that reach an endpoint."""
    return Calls().watch(monkeypatch)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)
