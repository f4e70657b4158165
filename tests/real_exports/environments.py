"""The packages that formats are of, each in an environment of its own: they do not go together."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
READERS = Path(__file__).with_name("readers")
REQUIREMENTS = {
    "openai_lines": ("openai==3.57.0",),
    "atif_documents": ("atif==1.8.0",),
    "inspect_eval": ("inspect-ai==0.3.285",),
    "inspect_results": ("inspect-ai==0.3.285", "numpy"),
    "score_statistics": ("inspect-ai==0.3.285", "numpy", "scipy"),
    "harbor_job": ("harbor==0.26.0",),
    "verifiers_episodes": ("verifiers==0.4.0",),
    "vf_eval": ("sophistry-bench-sprint==0.1.6", "verifiers==0.1.14"),
    "rows": ("datasets==5.2.0", "pandas==3.1.1", "pyarrow==26.0.1"),
    "har_mitmproxy": ("mitmproxy==12.3.1",),
    "verl_outputs": ("verl==0.9.1", "orjson", "cachetools", "uvicorn", "fastapi"),  # it says of verl's alone
    "otlp_json": ("opentelemetry-proto==1.45.2",),
}
"""By the program in `readers` that uses them."""
HAR_VALIDATOR = "har-validator@5.1.5"
INSTALL, READ = 1200, 240
"""Seconds."""


def folder() -> Path:
    """`TRIOCEPT_EXPORTS_DIR`, or a directory beside nox's environments."""
    found = Path(os.environ.get("TRIOCEPT_EXPORTS_DIR", ROOT / ".nox" / "exports-cache")).absolute()
    found.mkdir(parents=True, exist_ok=True)
    return found


def read(reader: str, path: Path) -> Any:
    """What a reader, in the environment of its package, says that it has read."""
    done = subprocess.run(
        [environment(reader) / "bin" / "python", READERS / f"{reader}.py", path],
        capture_output=True,
        text=True,
        timeout=READ,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def validate_har(path: Path) -> Any:
    """What the validator of archives says of one."""
    prefix, npm, node = folder() / "har", shutil.which("npm"), shutil.which("node")
    assert npm is not None
    assert node is not None
    if not (prefix / "node_modules" / "har-validator").exists():
        prefix.mkdir(exist_ok=True)
        _run([npm, "install", "--prefix", prefix, "--no-fund", "--no-audit", "--silent", HAR_VALIDATOR])
    done = subprocess.run(
        [node, READERS / "har_validator.mjs", prefix, path],
        capture_output=True,
        text=True,
        timeout=READ,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def environment(reader: str) -> Path:
    """Return the directory of a reader's environment, made where there is none of just these versions."""
    requirements = REQUIREMENTS[reader]
    place = folder() / reader
    made = place / "requirements.txt"
    if not made.exists() or made.read_text() != "\n".join(requirements):
        _run([sys.executable, "-m", "venv", "--clear", place])
        _run([place / "bin" / "pip", "install", "-q", *requirements])
        made.write_text("\n".join(requirements))
    return place


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL)
