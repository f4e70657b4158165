"""Instructions, which valgrind counts (callgrind): no other program on the machine changes them.

A program calls `ready` when all is prepared, and `mark` right before and right after each piece of work. Then it prints
the names of these pieces as a JSON list, in the same order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOUND = shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None
_PATIENCE = 300.0


def ready() -> None:
    """Wait until instructions are counted: imports would take most of the time otherwise."""
    print("ready", flush=True)
    sys.stdin.readline()


def mark() -> int:
    """Begin or end a piece of work: callgrind writes what it has counted before each call of this C function."""
    return os.getpgid(0)


def count(module: str, *arguments: str, seed: int = 0) -> dict[str, int]:
    """Run a module under callgrind, and return the instructions of each piece of work by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part"
        options = ["-q", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getpgid"]
        program = [sys.executable, "-m", module, *arguments]
        with subprocess.Popen(
            ["valgrind", *options, f"--callgrind-out-file={out}", *program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{module} ended before it was ready")
            control = ["callgrind_control", "--instr=on", str(process.pid)]
            subprocess.run(control, check=True, capture_output=True, timeout=_PATIENCE)
            said, _ = process.communicate("go\n")
        if process.returncode:
            raise RuntimeError(f"{module} ended with status {process.returncode}")
        names: list[str] = json.loads(said)
        parts = (f"{out}.{2 * number + 2}" for number in range(len(names)))
        totals = [Path(part).read_text(encoding="utf-8").rpartition("totals: ")[2] for part in parts]
    return {name: int(total.split()[0]) for name, total in zip(names, totals, strict=True)}
