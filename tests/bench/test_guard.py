"""What the guard against slower code says; `nox -s guard` runs it."""

import sys

import pytest

from bench import guard
from bench.guard import LIMIT, baselines, judge

ROWS = {"one": 1.0, "two": 20.0}


def test_a_row_that_takes_a_tenth_more_is_named_and_others_are_not() -> None:
    (line,) = judge({"one": 1.1, "two": 20.4}, ROWS)
    assert line == f"one: 1.100 times its baseline (limit: {LIMIT})"


def test_rows_that_take_less_pass() -> None:
    assert judge({"one": 0.5, "two": 20.0}, ROWS) == []


def test_each_baseline_has_the_same_six_rows() -> None:
    found = baselines()
    assert found
    assert {tuple(rows) for rows in found.values()} == {tuple(next(iter(found.values())))}
    assert {len(rows) for rows in found.values()} == {6}


@pytest.mark.parametrize(("version", "printed"), [(guard.VERSION, True), (min(baselines()), False)])
def test_a_python_without_a_baseline_is_named_and_does_not_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str, printed: bool
) -> None:
    rows = next(iter(baselines().values()))
    monkeypatch.setattr(guard, "measure", lambda seed: rows)
    monkeypatch.setattr(guard, "baselines", lambda: {"2.7" if printed else version: rows})
    monkeypatch.setattr(guard, "VERSION", version)
    monkeypatch.setattr(sys, "argv", ["guard"])
    guard.main()
    said = capsys.readouterr().out
    assert (f"Python {version} has no baseline in guard.json, so nothing is compared" in said) is printed
    assert said.count("(no baseline)") == printed * len(rows)
    assert said.count("1.000 of the baseline") == (not printed) * len(rows)
