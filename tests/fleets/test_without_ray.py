"""Where Ray is not installed: all else is there, and the engine says what to install."""

from __future__ import annotations

import importlib.util

import pytest

from tests.programs import run_python
from triocept.fleets import RayEngine
from triocept.fleets.ray_bridge import variables_of_ray


def test_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'triocept\[ray\]'"):
        RayEngine("10.0.0.1:6379", workers=2)


def test_ray_is_imported_when_a_fleet_connects_and_no_earlier() -> None:
    assert run_python("import sys, triocept.fleets; sys.exit('ray' in sys.modules)").returncode == 0


@pytest.mark.parametrize(("options", "text"), [
    ({"workers": 0}, "workers must be 1 or more"),
    ({"slots_per_worker": 0}, "slots_per_worker must be 1 or more"),
    ({"num_cpus": -1}, "num_cpus must be 0 or more"),
    ({"hung_after": 0}, "hung_after must be more than 0"),
])  # fmt: skip
def test_a_number_that_makes_no_sense_is_said_first(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RayEngine(**options)  # type: ignore[arg-type]


def test_what_ray_has_set_for_itself_is_told_from_what_the_node_has() -> None:
    node = {"HOME": "/root", "OMP_NUM_THREADS": "8", "RAY_ADDRESS": "x:1", "PYTHONBREAKPOINT": "mine.trace"}
    mine = node | {"RAY_JOB_ID": "1", "SPT_NOENV": "1"}
    assert set(variables_of_ray(mine, node)) == {"RAY_ADDRESS", "RAY_JOB_ID", "SPT_NOENV"}
    mine |= {"OMP_NUM_THREADS": "1", "PYTHONBREAKPOINT": "ray.util.rpdb.set_trace"}
    assert {"OMP_NUM_THREADS", "PYTHONBREAKPOINT"} <= set(variables_of_ray(mine, node))
