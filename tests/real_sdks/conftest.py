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

from tests.real_sdks.playing import PARAMETERS, Plays, play_all

HERE = Path(__file__).parent
NPM_PACKAGES = (
    "openai",
    "@anthropic-ai/sdk",
    "@google/genai",
    "ai",
    "@ai-sdk/openai",
    "@ai-sdk/anthropic",
    "@ai-sdk/openai-compatible",
    "@ai-sdk/google",
    "zod",
)
PIP_PACKAGES = (
    "litellm",
    "pydantic-ai-slim[openai,anthropic]",
    "langchain",
    "langchain-openai",
    "langchain-google-genai",
    "agno",
    "openai-agents",
    "google-genai",
    "smolagents",
)


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
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return None
    folder = sdks_dir / "npm"
    folder.mkdir(exist_ok=True)
    if not all((folder / "node_modules" / package).exists() for package in NPM_PACKAGES):
        # With `@*`, npm takes the newest version whose `engines` allow this Node; `@latest` may refuse to run on it.
        newest = [f"{package}@*" for package in NPM_PACKAGES]
        install = [npm, "install", "--prefix", folder, "--no-fund", "--no-audit", *newest]
        subprocess.run(install, check=True, timeout=300)
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
    environment = sdks_dir / "python"
    python = environment / "bin" / "python"
    done = environment / "installed.txt"
    wanted = "\n".join(PIP_PACKAGES)
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True, timeout=300)
        subprocess.run([python, "-m", "pip", "install", "-q", *PIP_PACKAGES], check=True, timeout=600)
        done.write_text(wanted)
    found = metadata.distributions(path=[str(path) for path in environment.glob("lib/python*/site-packages")])
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
