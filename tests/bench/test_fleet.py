"""What a rollout costs in a fleet: each kind of work is done, by a program of its own."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import fleet
from bench.fleet import ROWS, left_out, measure

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", [
    "empty call: Processes(2)", "stub: InProcess", "stub: verifiers' env server, 2 workers", "agent: alone",
    "agent: Processes(2)", "agent: verifiers' env server, 2 workers",
])  # fmt: skip
def test_a_row_has_its_figures(name: str) -> None:
    if left_out(name):
        pytest.skip("verifiers is not installed: `nox -s bench -- fleet` has it")
    rollouts = ROWS[name][1]
    figures = measure(name, 4 / rollouts)
    assert figures["rollouts"] == 4
    assert figures["wall"] > 0
    assert figures["memory"] > 20


def test_a_peer_that_is_not_installed_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(fleet, "find_spec", lambda name: None if name == "verifiers" else find_spec(name))
    monkeypatch.setattr(fleet, "RESULTS", tmp_path / "fleet.json")
    monkeypatch.setattr(sys, "argv", ["fleet", "--only", "agent: verifiers"])
    fleet.main()
    assert "left out, for it is not installed: agent: verifiers' env server" in capsys.readouterr().out
    assert (tmp_path / "fleet.json").read_text() == "{}\n"
