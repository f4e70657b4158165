"""The servers, each started once. `TRIOCEPT_UPSTREAMS_DIR` says where they are installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import servers


@pytest.fixture(scope="session")
def upstreams_dir() -> Path:
    default = Path(__file__).parents[2] / ".nox" / "upstreams-cache"
    folder = Path(os.environ.get("TRIOCEPT_UPSTREAMS_DIR", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def aimock(upstreams_dir: Path) -> Iterator[str]:
    with servers.aimock(upstreams_dir) as url:
        yield url


@pytest.fixture(scope="session")
def llama_cpp(upstreams_dir: Path) -> Iterator[str]:
    with servers.llama_cpp(upstreams_dir) as url:
        yield url


@pytest.fixture(scope="session")
def transformers_serve(upstreams_dir: Path) -> Iterator[tuple[str, str]]:
    with servers.transformers_serve(upstreams_dir) as found:
        yield found
