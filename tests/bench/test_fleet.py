"""What a rollout costs in a fleet: each kind of work is done, by a program of its own."""

from __future__ import annotations

import pytest

from bench.fleet import ROWS, measure

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "name", ["empty call: Processes(2)", "stub: InProcess", "agent: alone", "agent: Processes(2)"]
)
def test_a_row_has_its_figures(name: str) -> None:
    rollouts = ROWS[name][1]
    figures = measure(name, 4 / rollouts)
    assert figures is not None
    assert figures["rollouts"] == 4
    assert figures["wall"] > 0
    assert figures["memory"] > 20
