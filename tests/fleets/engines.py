"""The engines that the tests of fleets are run on: each promise is one of all of them.

Ray is among them where it is installed, on a cluster of this machine with two nodes: `nox -s fleet`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from triocept.fleets import Engine, InProcess, Processes, RayEngine

Make = Callable[..., Engine]
HAS_RAY = importlib.util.find_spec("ray") is not None


def processes(workers: int = 2, slots_per_worker: int = 2, *, hung_after: float | None = 120.0) -> Processes:
    return Processes(workers, slots_per_worker=slots_per_worker, hung_after=hung_after)


def on_ray(workers: int = 2, slots_per_worker: int = 2, *, hung_after: float | None = 120.0) -> RayEngine:
    from tests.fleets.cluster import the_cluster

    the_cluster()
    return RayEngine(workers=workers, slots_per_worker=slots_per_worker, num_cpus=0.1, hung_after=hung_after)


ENGINES: dict[str, Make] = {
    "in_process": lambda: InProcess(4),
    "processes": processes,
    **({"ray": on_ray} if HAS_RAY else {}),
}
"""Four slots each."""
_OWN_PROCESSES = [pytest.mark.once, pytest.mark.timeout(200)]
"""A test whose workers die starts several, one after the other: 13 s on a busy machine, 55 s on one six times as
busy."""
PARAMETERS = [
    pytest.param(make, id=name, marks=[] if name == "in_process" else _OWN_PROCESSES)
    for name, make in ENGINES.items()
]
every_engine = pytest.mark.parametrize("make", PARAMETERS)
"""Workers that are processes take seconds to start: on the newest Python alone."""
on_every_python = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES.keys())
"""For what goes from process to process: how it is packed may differ."""
with_processes = pytest.mark.parametrize("make", PARAMETERS[1:])
"""Those whose workers are processes, and can die; they take `workers`, `slots_per_worker` and `hung_after`."""


def processes_of_a_program() -> str:
    return "Processes(2, slots_per_worker=4)"


def ray_of_a_program() -> str:
    """On a cluster that is not the program's own: it lives on."""
    from tests.fleets.cluster import the_cluster

    return f"RayEngine({the_cluster().address!r}, workers=2, slots_per_worker=4, num_cpus=0.1)"


engine_of_a_program = pytest.mark.parametrize(
    "engine",
    [processes_of_a_program, *([ray_of_a_program] if HAS_RAY else [])],
    ids=["processes", "ray"][: 1 + HAS_RAY],
)
"""What makes one, as a program's text, which imports all of `triocept.fleets`."""
