"""What the guard against slower code says; `nox -s guard` runs it."""

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
