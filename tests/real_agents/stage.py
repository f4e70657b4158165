"""An agent under `triocept run`, in a process of its own, as a person starts it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import triocept
from triocept import Trace, read_traces


@dataclass
class Run:
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

    @staticmethod
    def _ours() -> dict[str, str]:
        return {"PYTHONPATH": str(Path(triocept.__file__).parents[1])}

    def run(self, script: str, command: Sequence[str | Path], *options: str | Path, **environ: str) -> Run:
        """`triocept run` with this script (Python), this command, and these options of its own."""
        work, home = self.root / "work", self.root / "home"
        work.mkdir()
        home.mkdir()
        (self.root / "script.py").write_text(script)
        record = self.root / "trace.jsonl"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "triocept", "run"),
                *("--script", self.root / "script.py", "--record", record, *options, "--", *command),
            ],
            cwd=work,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **self._ours(), **environ},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        print(done.stderr, done.stdout, sep="\n")
        (trace,) = read_traces(record)
        return Run(done.returncode, done.stdout, done.stderr, trace, work)
