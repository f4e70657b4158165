"""Instructions, which valgrind counts (callgrind): no other program on the machine changes them.

A program calls `mark` right before and right after each piece of work, and prints the names of these pieces as a JSON
list, in the same order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

FOUND = shutil.which("valgrind") is not None


def mark() -> int:
    """Begin or end a piece of work: callgrind writes what it has counted before each call of this C function."""
    return os.getpgid(0)


def count(module: str, *arguments: str, variables: Mapping[str, str] | None = None) -> dict[str, int]:
    """Run a module under callgrind, and return the instructions of each piece of work by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part"
        options = ["-q", "--tool=callgrind", "--dump-before=getpgid", f"--callgrind-out-file={out}"]
        command = ["valgrind", *options, sys.executable, "-m", module, *arguments]
        environ = {**os.environ, "PYTHONHASHSEED": "0", **(variables or {})}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environ)
        names: list[str] = json.loads(done.stdout)
        parts = (f"{out}.{2 * number + 2}" for number in range(len(names)))
        totals = [Path(part).read_text(encoding="utf-8").rpartition("totals: ")[2] for part in parts]
    return {name: int(total.split()[0]) for name, total in zip(names, totals, strict=True)}
