"""What triocept's plugin costs a project that has no use for it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from pstats import Stats

from tests.real_projects.project_run import LIMIT, copy_project, own_environment

RUNS = 12
"""Of each command, in turn. The least of them counts: what else the machine does only adds to it."""


def cpu_of_runs(commands: Mapping[str, Sequence[str | Path]], project: str, place: Path) -> dict[str, float]:
    """CPU seconds of a run of pytest in the project, by each of these commands."""
    folder = copy_project(project, place)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(_cpu(command, folder))
    return {name: min(each) for name, each in times.items()}


def seconds_within(module: str, command: Sequence[str | Path], project: str, place: Path) -> float:
    """Return the seconds of a run within a module and all that it calls, by a profiler, which makes them more."""
    folder, profile = copy_project(project, place), place / "profile"
    python, *arguments = command
    _cpu([python, "-m", "cProfile", "-o", profile, *arguments], folder)
    found = Stats(str(profile)).stats
    return sum(each[3] for (file, *_), each in found.items() if Path(file).name == module)


def _cpu(command: Sequence[str | Path], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**own_environment(), "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=LIMIT,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
