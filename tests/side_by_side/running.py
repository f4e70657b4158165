"""pytest in an environment, bounded: what it says of each test, seconds and CPU seconds."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

LIMIT = 600
"""Seconds for one run of pytest: 200 servers, one after the other, take 60 where nothing else runs."""
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
"""What a run has of the environment: no key of a provider's, no option for pytest."""


class Failed(Exception):
    """A run in which a test failed, or that was none; its text is what pytest said."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a file of tests."""

    seconds: float
    """From the start of the process to its end: imports, collection, tests."""
    cpu: float
    """Seconds of the processor, of the process and of those that it started."""
    tests: dict[str, float] = field(repr=False)
    """Seconds for each test that passed: its set-up, its call, its tear-down."""
    unsaid: dict[str, str]
    """For each test that was skipped or failed as it must: why."""


def run_pytest(
    python: Path, folder: Path, *arguments: str | Path, environ: dict[str, str] | None = None
) -> Run:
    """Run tests in their folder, with its `pytest.ini` and nothing of ours."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        _run([python, "-m", "pytest", "-q", f"--junitxml={report}", *arguments], folder, environ or {})
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cases = list(ElementTree.parse(report).iter("testcase"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    passed = {
        case.attrib["name"]: float(case.attrib["time"]) for case in cases if case.find("skipped") is None
    }
    unsaid = {
        case.attrib["name"]: skipped.attrib["message"]
        for case in cases
        if (skipped := case.find("skipped")) is not None
    }
    return Run(seconds=seconds, cpu=cpu, tests=passed, unsaid=unsaid)


def _run(command: Sequence[str | Path], folder: Path, environ: dict[str, str]) -> None:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYDANTIC_AI_NO_BANNER": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | quiet | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stdout[-6000:] + done.stderr[-2000:])
