"""Where the SDKs are kept, and how they are installed. `TRIOCEPT_SDKS_DIR` says where."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import trio

from tests.packages import environment, node_modules
from tests.real_sdks.playing import PARAMETERS, Plays, play_all

HERE = Path(__file__).parent
NPM_PACKAGES = (
    "openai", "@anthropic-ai/sdk", "@google/genai", "ai", "@ai-sdk/openai", "@ai-sdk/anthropic",
    "@ai-sdk/openai-compatible", "@ai-sdk/google", "zod",
)  # fmt: skip
PIP_PACKAGES = (
    "litellm", "pydantic-ai-slim[openai,anthropic]", "langchain", "langchain-openai",
    "langchain-google-genai", "agno", "openai-agents", "google-genai", "smolagents",
)  # fmt: skip


@pytest.fixture(scope="session")
def sdks_dir() -> Path:
    return sdks_folder()


def sdks_folder() -> Path:
    """Where the SDKs are kept."""
    default = Path(__file__).parents[2] / ".nox" / "sdks-cache"
    folder = Path(os.environ.get("TRIOCEPT_SDKS_DIR", default)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def install_javascript(sdks_dir: Path) -> tuple[str, Path] | None:
    """Node, and the folder of the programs: beside their packages, where Node looks for these. None without npm."""
    node = shutil.which("node")
    if shutil.which("npm") is None or node is None:
        return None
    folder = node_modules(sdks_dir / "npm", *NPM_PACKAGES).parent
    for program in HERE.glob("*.mjs"):
        shutil.copy(program, folder)
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    lines = [f"Node {version}"]
    for package in NPM_PACKAGES:
        document = json.loads((folder / "node_modules" / package / "package.json").read_text())
        lines.append(f"  {package} {document['version']}")
    print("", *lines, sep="\n")
    return node, folder


def install_libraries(sdks_dir: Path) -> tuple[str, Path]:
    """A Python with the libraries, and the folder of the programs."""
    python = environment(sdks_dir / "python", *PIP_PACKAGES)
    found = metadata.distributions(
        path=[str(path) for path in python.parents[1].glob("lib/python*/site-packages")]
    )
    names = {package.partition("[")[0] for package in PIP_PACKAGES} | {"openai", "anthropic"}
    versions = sorted((each.name, each.version) for each in found if each.name in names)
    print(
        f"\nPython {sys.version.split()[0]}", *(f"  {name} {version}" for name, version in versions), sep="\n"
    )
    return str(python), HERE


@pytest.fixture(scope="session")
def plays(sdks_dir: Path, request: pytest.FixtureRequest) -> Plays:
    """What became of the programs that the selected tests look at: all are run at once, each as often as it must."""
    chosen = [item.callspec.params for item in request.session.items if "plays" in item.fixturenames]
    wanted = {tuple(params[name] for name in PARAMETERS) for params in chosen}
    with pytest.MonkeyPatch.context() as patch:  # silences are short here: the endpoint fills them sooner
        patch.setattr("triocept._server.delivery.HEAD_AFTER", 0.2)
        patch.setattr("triocept._server.delivery.KEEPALIVE_EVERY", 0.1)
        return trio.run(
            play_all, wanted, (partial(install_javascript, sdks_dir), partial(install_libraries, sdks_dir))
        )
