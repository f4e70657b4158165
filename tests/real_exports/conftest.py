"""The traces of real agents, recorded once for all tests. Not collected by the test suite: `nox -s exports`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.real_agents.installed import CannotInstall
from tests.real_exports.recorded import RUNS, record


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a run's trace, by the run's name."""

    @cache
    def recorded(name: str) -> Path:
        try:
            return record(RUNS[name], tmp_path_factory.mktemp(name))
        except CannotInstall as exc:
            pytest.skip(str(exc))

    return recorded
