"""Packages that tests install from the Python and npm registries, into folders that are kept between runs.

Plain nox pins them: pip reads the file that `PIP_CONSTRAINT` names, and npm's versions are in `constraints/npm.txt`. If
`TRIOCEPT_NEWEST` is set, as `nox -s newest` does, nothing is pinned.

`python -m tests.packages VERSION=INTERPRETER...` writes the constraints of these Pythons, and `npm.txt`: `nox -s lock`.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints"
UNPINNED = bool(os.environ.get("TRIOCEPT_NEWEST"))
"""True if no package is pinned."""
NPM_PINS = {
    package: version
    for line in (CONSTRAINTS / "npm.txt").read_text().splitlines()
    if not line.startswith("#")
    for package, _, version in [line.rpartition("@")]
}
"""The version of each package of npm that plain nox installs."""
AGENTS_OF_NPM = ("@anthropic-ai/claude-code", "@openai/codex")
"""The agents of plain nox. Their versions are chosen by hand: the documentation names them."""
INSTALL = 800
"""Seconds."""


class InstallFailed(Exception):
    """pip or npm failed; the text contains its reason."""


def environment(place: Path, *requirements: str, python: str = sys.executable) -> Path:
    """Return the interpreter of a virtual environment of just these packages; make it if there is none."""
    version = "{}.{}.txt".format(*sys.version_info)
    pins = (CONSTRAINTS / version).read_text() if "PIP_CONSTRAINT" in os.environ else ""
    # The environments of several checkouts share a place: they have one interpreter behind them.
    facts, made = (
        "\n".join([os.path.realpath(python), sys.version, *requirements, pins]),
        place / "made-of.txt",
    )
    interpreter = place / "bin" / "python"
    if not made.exists() or made.read_text() != facts:
        _run([python, "-m", "venv", "--clear", place])
        _run([interpreter, "-m", "pip", "install", "-q", *requirements])
        made.write_text(facts)
    return interpreter


def node_modules(prefix: Path, *packages: str) -> Path:
    """Return the folder of these packages of npm; without pins, the newest that this Node allows."""
    pins = [f"{name}@{version}" for name, version in NPM_PINS.items() if name not in AGENTS_OF_NPM]
    wanted = [f"{package}@*" for package in packages] if UNPINNED else ["--engine-strict", *pins]
    made = prefix / "made-of.txt"
    if not made.exists() or made.read_text() != "\n".join(wanted):
        shutil.rmtree(prefix, ignore_errors=True)
        npm_install(prefix, *wanted)
        made.write_text("\n".join(wanted))
    return prefix / "node_modules"


def npm_install(prefix: Path, *arguments: str) -> None:
    """Install packages of npm, and run their install scripts (Claude Code needs that) whatever npm is told."""
    manifest = prefix / "package.json"
    document = json.loads(manifest.read_text()) if manifest.exists() else {}
    packages = [word.rpartition("@")[0] for word in arguments if not word.startswith("-")]
    document["allowScripts"] = document.get("allowScripts", {}) | dict.fromkeys(packages, True)
    prefix.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(document))
    npm: list[str | Path] = ["npm", "install", "--prefix", prefix, "--no-fund", "--no-audit", *arguments]
    _run(npm, npm_config_ignore_scripts="false")


def _run(command: list[str | Path], **variables: str) -> None:
    environ = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL, check=False, env=environ)
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise InstallFailed(
            f"{words}\n{done.stderr[-3000:]}\n"
            f"This machine is {platform.platform()}, Python {platform.python_version()}. If a pinned version"
            " (constraints/) does not fit it: `nox -s newest -- SESSION` installs without pins"
        )


def wanted() -> list[str]:
    """Return the requirements of plain nox and `nox -s coverage`, also those of the environments that tests make."""
    from tests.real_agents.cases import SOURCES
    from tests.real_sdks.conftest import PIP_PACKAGES
    from tests.real_upstreams.servers import LLAMA_CPP

    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups, agent = document["project"], document["dependency-groups"], SOURCES["mini_swe_agent"]
    return [
        *document["build-system"]["requires"],
        *project["dependencies"],
        *project["optional-dependencies"]["prime"],
        *(line for name in ("lint", "types", "docs", "test", "coverage") for line in groups[name]),
        *(*PIP_PACKAGES, *LLAMA_CPP, f"{agent.package}=={agent.version}"),
    ]


def lock(interpreters: dict[str, str]) -> None:
    """Write the newest versions that go together into `constraints/`: a file for each Python, and one for npm."""
    for version, interpreter in interpreters.items():
        _lock_python(version, interpreter)
    _lock_npm()


def _lock_python(version: str, interpreter: str) -> None:
    """One resolution for all environments: each package has one version in all of plain nox."""
    with tempfile.TemporaryDirectory() as folder:
        report, requirements = Path(folder) / "report.json", Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(wanted()))
        pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--dry-run"]
        _run([*pip, "--ignore-installed", "--report", report, "-r", requirements])
        found = [package["metadata"] for package in json.loads(report.read_text())["install"]]
    lines = sorted(f"{canonicalize_name(each['name'])}=={each['version']}" for each in found)
    (CONSTRAINTS / f"{version}.txt").write_text("\n".join(["# Made by `nox -s lock`.", *lines, ""]))


def _lock_npm() -> None:
    """The packages that npm puts at the top. What lies deeper is of one exact version for its dependent."""
    from tests.real_sdks.conftest import NPM_PACKAGES

    agents = [f"{package}@{NPM_PINS[package]}" for package in AGENTS_OF_NPM]
    with tempfile.TemporaryDirectory() as folder:
        npm_install(Path(folder), "--package-lock-only", *agents, *(f"{name}@*" for name in NPM_PACKAGES))
        found = json.loads((Path(folder) / "package-lock.json").read_text())["packages"]
    top = re.compile(r"node_modules/((?:@[^/]+/)?[^/]+)")
    lines = [
        f"{match[1]}@{package['version']}"
        for path, package in found.items()
        if (match := top.fullmatch(path)) and not package.get("optional")
    ]
    head = "# Made by `nox -s lock`, which keeps the versions of agents: those are changed by hand, here."
    (CONSTRAINTS / "npm.txt").write_text("\n".join([head, *sorted(lines), ""]))


if __name__ == "__main__":
    lock(dict(each.split("=", 1) for each in sys.argv[1:]))
