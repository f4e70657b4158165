"""The wheel of this checkout, and the environments that have it. Not collected by the test suite: `nox -s plugin`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.real_projects.environments import Environment, build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(wheel: Path) -> Callable[[str], Environment]:
    """An environment by its name."""

    @cache
    def environment(name: str) -> Environment:
        found = Environment(name, wheel)
        print(f"\n{name}: {found.versions()}")
        return found

    return environment
