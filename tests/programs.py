"""Programs that a test runs in a process of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(
    code: str, *arguments: str | Path, options: tuple[str, ...] = (), timeout: float = 200, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code that may import the tests; `environment` is added to that of this process."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
