"""What triocept's plugin costs a project that has no use for it."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path
from statistics import median

from tests.real_projects.project_run import LIMIT, PROJECTS, own_environment

__all__ = ["cpu_of_runs"]

RUNS = 15
"""Of each, in turn: what else the machine does meets both alike."""


def cpu_of_runs(one: Path, other: Path, project: str, place: Path) -> tuple[float, float]:
    """CPU seconds of a run of the project by each of two Pythons: the median of several."""
    folder = place / project
    shutil.copytree(PROJECTS / project, folder)
    times: dict[Path, list[float]] = {one: [], other: []}
    for _ in range(RUNS + 1):
        for python in times:
            times[python].append(_cpu(python, folder))
    return median(times[one][1:]), median(times[other][1:])  # the first run of each compiles


def _cpu(python: Path, folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=own_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=LIMIT,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
