"""Real agents, installed from the npm and Python registries into a directory that is kept between runs.

Not part of the test command: `nox -s agents` runs it. `TRIOCEPT_AGENTS_DIR` says where the agents are kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from triocept import Trace, read_traces


def npm_agent(folder: Path, package: str, command: str) -> Path:
    """An agent from the npm registry; its executable."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on this machine")
    executable = folder / "npm" / "node_modules" / ".bin" / command
    if not executable.exists():
        install = [npm, "install", "--prefix", folder / "npm", "--no-fund", "--no-audit", package]
        subprocess.run(install, check=True, timeout=600)
    return executable


def pip_agent(folder: Path, package: str, command: str) -> Path:
    """An agent from the Python registry, in an environment of its own; its executable."""
    environment = folder / package
    executable = environment / "bin" / command
    if not executable.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=300)
        subprocess.run([environment / "bin" / "pip", "install", "-q", package], check=True, timeout=900)
    return executable


@dataclass
class Played:
    """An agent's run under `triocept run`, ended."""

    returncode: int
    stdout: str
    stderr: str
    trace: Trace
    work: Path


@dataclass
class Stage:
    """Where an agent is run: an empty home, an empty directory, and nothing of the environment but PATH."""

    root: Path

    def play(self, script: str, command: list[str | Path], **environ: str) -> Played:
        """`triocept run` with this script (Python) and this agent."""
        work, home = self.root / "work", self.root / "home"
        work.mkdir()
        home.mkdir()
        (self.root / "script.py").write_text(script)
        record = self.root / "trace.jsonl"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "triocept", "run"),
                *("--script", self.root / "script.py", "--record", record, "--", *command),
            ],
            cwd=work,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **environ},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        print(done.stderr, done.stdout, sep="\n")
        (trace,) = read_traces(record)
        return Played(done.returncode, done.stdout, done.stderr, trace, work)


def version_of(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    version = (done.stdout + done.stderr).strip().splitlines()[0]
    print(f"{command[0]}: {version}")
    return version
