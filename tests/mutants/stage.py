"""A copy of the tree in which a mutant is applied, and the tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "_build", "node_modules", "*.egg-info")
_DAY = 24 * 60 * 60.0
"""Seconds; no wait of the operating system can be given infinity."""
_PYTEST = (
    "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-m", "not once", "--no-header", "-W",
    "ignore::pytest.PytestWarning",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of a run of tests."""

    passed: bool
    in_time: bool
    seconds: float
    output: str
    """The end of it."""


class Stage:
    """A copy of a tree; made by `copied`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / ".venv" / "bin" / "python"

    @contextmanager
    def changed(self, file: str, source: str) -> Iterator[None]:
        """The file says this, until the block is left."""
        path = self.root / file
        before = path.read_text()
        self._write(path, source)
        try:
            yield
        finally:
            self._write(path, before)

    def run(self, tests: Sequence[str], *, seconds: float) -> Ran:
        """Run these files until a test fails or the time is over. The programs in their process group end with them."""
        begun = time.monotonic()
        env = os.environ | {"PATH": os.pathsep.join((str(self.python.parent), os.environ.get("PATH", "")))}
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS"):
            env.pop(name, None)
        program = subprocess.Popen(
            [str(self.python), "-m", "pytest", *_PYTEST, *tests],
            cwd=self.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        output, in_time = "", True
        try:
            output, _ = program.communicate(timeout=min(seconds, _DAY))
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            _end(program)
        return Ran(
            passed=in_time and program.returncode == 0,
            in_time=in_time,
            seconds=time.monotonic() - begun,
            output=output[-3000:],
        )

    def _write(self, path: Path, source: str) -> None:
        """Without the file's bytecode: that counts as fresh if a change of the same length came in the same second."""
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink(missing_ok=True)
        path.write_text(source)


@contextmanager
def copied(root: Path) -> Iterator[Stage]:
    """Copy the tree, with a Python of its own that has the packages of this one (of `.pth` files, only the folders)."""
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve() / "tree"
        shutil.copytree(root, copy, ignore=_NOT_COPIED)
        venv.create(copy / ".venv", with_pip=False, symlinks=True)
        packages = sysconfig.get_path(
            "purelib", vars={"base": str(copy / ".venv"), "platbase": str(copy / ".venv")}
        )
        Path(packages, "mutants.pth").write_text(f"{copy}\n{sysconfig.get_path('purelib')}\n")
        yield Stage(copy)


def _end(program: subprocess.Popen[str]) -> None:
    """With all of its group, and never without being waited for."""
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    program.communicate()
