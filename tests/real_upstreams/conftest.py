"""The servers, each started once. `TRIOCEPT_UPSTREAMS_DIR` says where they are installed.

`nox -s upstreams` runs all tests, `nox -s upstreams_ci` what is marked `ci`, `nox -s vllm` what is marked `vllm`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real_agents.cases import SOURCES
from tests.real_agents.installed import CannotInstall, agents_folder, installed
from tests.real_agents.play import Calls

from . import servers
from .sent import Sent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ci: also in the test command")
    config.addinivalue_line("markers", "slow: half a minute and more; only in `nox -s upstreams`")
    config.addinivalue_line("markers", "vllm: only in `nox -s vllm`")


@pytest.fixture(scope="session")
def upstreams_dir() -> Path:
    default = Path(__file__).parents[2] / ".nox" / "upstreams-cache"
    folder = Path(os.environ.get("TRIOCEPT_UPSTREAMS_DIR", default)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def aimock(upstreams_dir: Path) -> Iterator[str]:
    with servers.aimock(upstreams_dir) as url:
        yield url


@pytest.fixture(scope="session")
def llama_cpp(upstreams_dir: Path) -> Iterator[str]:
    with servers.llama_cpp(upstreams_dir, "llama.log") as server:
        server.start()
        yield server.url


@pytest.fixture(scope="session")
def mortal(upstreams_dir: Path) -> Iterator[servers.LlamaCpp]:
    """A server of llama.cpp to be killed: each test starts it as it wants it."""
    with servers.llama_cpp(upstreams_dir, "mortal.log") as server:
        yield server


@pytest.fixture(scope="session")
def transformers_serve(upstreams_dir: Path) -> Iterator[tuple[str, str]]:
    with servers.transformers_serve(upstreams_dir) as found:
        yield found


@pytest.fixture(scope="session")
def vllm(upstreams_dir: Path) -> Iterator[str]:
    with servers.vllm(upstreams_dir) as url:
        yield url


@pytest.fixture(scope="session")
def executable_of() -> Callable[[str], Path]:
    """The command of an agent, installed where it is not; the test is skipped where it cannot be."""

    def executable(agent: str) -> Path:
        try:
            return installed(SOURCES[agent.partition(", ")[0]], agents_folder())
        except CannotInstall as exc:
            pytest.skip(str(exc))

    return executable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts the model calls that reach an endpoint."""
    return Calls().watch(monkeypatch)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What upstreams send from here on."""
    return Sent().watch(monkeypatch)
