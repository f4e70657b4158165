"""The agents, installed from the npm and Python registries into a directory that is kept between runs.

`python -m tests.real_agents.installed [AGENT...]` installs these (or all), and says their versions.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.packages import UNPINNED, environment, npm_install
from tests.real_agents.cases import NEWER, SOURCES, Source

ROOT = Path(__file__).parents[2]


class CannotInstall(Exception):
    """This machine lacks what the agent needs; the text says what."""


def agents_folder() -> Path:
    """`TRIOCEPT_AGENTS_DIR`, or a directory beside nox's environments."""
    folder = Path(os.environ.get("TRIOCEPT_AGENTS_DIR", ROOT / ".nox" / "agents-cache")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installed(source: Source, folder: Path) -> Path:
    """Return the command of an agent; install the version that the table names (`nox -s newest`: any) if need be."""
    if source.registry == "pip":
        _install_pip(source, folder)
    elif (version := version_installed(source, folder)) is None or not (
        UNPINNED or version == source.version
    ):
        _install_npm(source, folder)
    return _executable(source, folder)


def version_installed(source: Source, folder: Path) -> str | None:
    """Which version is there, without a run of it; None where there is none."""
    if not _executable(source, folder).exists():
        return None
    if source.registry == "npm":
        manifest = _prefix(source, folder) / "node_modules" / source.package / "package.json"
        return str(json.loads(manifest.read_text())["version"])
    name = source.package.replace("-", "_")
    for found in (folder / source.package).glob(f"lib/*/site-packages/{name}-*.dist-info"):
        return found.name.removesuffix(".dist-info").rpartition("-")[2]
    return None


def versions(folder: Path) -> str:
    """What is there, in one line."""
    node = shutil.which("node")
    there = [f"Python {sys.version.split()[0]}"]
    if node is not None:
        there.append(f"node {subprocess.check_output([node, '--version'], text=True, timeout=60).strip()}")
    found = {agent: version_installed(source, folder) for agent, source in SOURCES.items()}
    return ", ".join([*there, *(f"{agent} {version}" for agent, version in found.items() if version)])


def _executable(source: Source, folder: Path) -> Path:
    if source.registry == "pip":
        return folder / source.package / "bin" / source.command
    return _prefix(source, folder) / ("bin" if source.node else "node_modules/.bin") / source.command


def _prefix(source: Source, folder: Path) -> Path:
    return folder / (f"npm-node-{source.node}" if source.node else "npm")


def _install_npm(source: Source, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise CannotInstall(f"{source.package} comes from the npm registry, and this machine has no npm")
    prefix = _prefix(source, folder)
    node = [f"node@{source.node}"] if source.node else []
    npm_install(prefix, "--save-exact", f"{source.package}@{'*' if UNPINNED else source.version}", *node)
    if source.node:
        _write_command(source, prefix)


def _write_command(source: Source, prefix: Path) -> None:
    """A command that runs it with the Node that was installed beside it."""
    found, command = prefix / "node_modules" / ".bin", prefix / "bin" / source.command
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nPATH="{found}:$PATH" exec "{found / source.command}" "$@"\n')
    command.chmod(0o755)


def _install_pip(source: Source, folder: Path) -> None:
    pin = "" if UNPINNED else f"=={source.version}"
    environment(folder / source.package, source.package + pin, python=_python_for(source))


def _python_for(source: Source) -> str:
    """An interpreter that its package takes, the newest first: ours, or one that is on PATH and runs."""
    limit = source.below_python
    if limit is None or sys.version_info[:2] < limit:
        return sys.executable
    for minor in range(limit[1] - 1, 10, -1):
        path = shutil.which(f"python3.{minor}")
        if path and subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return path
    raise CannotInstall(
        f"{source.package} {source.version} takes no Python from {limit[0]}.{limit[1]} on, and there is no older one"
    )


def main(agents: list[str]) -> None:
    folder = agents_folder()
    sources = SOURCES | NEWER
    for agent in agents or sources:
        try:
            installed(sources[agent], folder)
        except CannotInstall as exc:
            print(f"{agent} is not installed: {exc}")
    print(versions(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
