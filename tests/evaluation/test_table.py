"""The table of an evaluation: its figures are those of the statistics, and it fits 78 columns."""

from __future__ import annotations

from typing import Any

import pytest

from triocept.evaluation import EvaluationResults, Sample, Score, Task
from triocept.evaluation._progress import Counts


def results(values: dict[str, list[float | None]], **changes: Any) -> EvaluationResults:
    """The results of tasks with these values; None is a sample without a score."""
    number = max(map(len, values.values()))
    samples = [
        Sample(
            task=task, number=at, turns=2, input_tokens=600_000, output_tokens=50, cost=0.12, seconds=61.0,
            **({"reason": "provider_error"} if value is None else {"scores": {"check": Score(value)}}),
        )
        for task, each in values.items()
        for at, value in enumerate(each)
    ]  # fmt: skip
    about = {
        "name": "coding", "agent": "claude-code", "model": "qwen3", "scorers": ("check",), "samples_per_task": number,
        "tasks": tuple(Task(id=task, prompt="x") for task in values), "samples": tuple(samples), "started_at": 0.0,
    }  # fmt: skip
    return EvaluationResults(**about | changes)


FIVE = {"a": [1, 1, 1], "b": [1, 0, 1], "c": [0, 0, 1], "d": [0, 0, 0], "e": [1, 1, 0]}


def test_the_table_has_the_figures_of_the_statistics() -> None:
    lines = results(FIVE).table().splitlines()
    assert lines[0] == "coding · claude-code · qwen3 · 5 tasks x 3 samples"
    assert lines[2].split() == ["score", "mean", "se", "95", "%", "interval", "pass@3", "pass^3", "scored"]
    assert lines[3].split() == [
        "check",
        "0.533",
        "0.170",
        "0.17",
        "..",
        "0.86",
        "0.800",
        "0.200",
        "15",
        "of",
        "15",
    ]
    assert lines[5] == "all samples have a score, and each agent ended by itself"
    assert lines[8].split() == ["a", "3", "of", "3", "6", "1.8M", "$0.36", "3m03s"]


def test_samples_without_a_score_are_counted_and_bound_the_mean() -> None:
    text = results(FIVE | {"b": [1, None, 0], "d": [None, None, None]}).table()
    assert "11 of 15" in text
    assert "check, unscored as 0: 0.467, as 1: 0.733" in text
    assert "* of the 3 tasks with 3 scored samples" in text
    assert "no score    4   4 provider error" in text
    assert [line.split()[:6] for line in text.splitlines() if line.startswith("b ")] == [
        ["b", "1", "of", "2,", "1", "?"]
    ]
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("d ")] == [["d", "3", "?"]]


def test_the_reasons_of_many_scorers_take_several_lines() -> None:
    failures = {f"scorer_{number}": ("scorer_failed", "x") for number in range(9)}
    one = Sample(task="a", number=0, reason="scorer_failed", failures=failures)
    text = results({"a": [None]}, samples=(one,)).table()
    assert all(f"1 scorer failed ({name})" in " ".join(text.split()) for name in failures)
    assert max(map(len, text.splitlines())) <= 78


def test_the_time_of_a_task_whose_agent_never_started_is_unknown() -> None:
    never = Sample(task="a", number=0, reason="setup_failed")
    (row,) = [
        line
        for line in results({"a": [None]}, samples=(never,)).table().splitlines()
        if line.startswith("a ")
    ]
    assert row.split()[-1] == "-"


def test_a_single_task_has_no_error_and_one_sample_has_no_pass_rate() -> None:
    lines = results({"a": [1.0]}).table().splitlines()
    assert lines[3].split() == ["check", "1.000", "n/a", "n/a", "1", "of", "1"]


def test_no_score_at_all_is_said() -> None:
    assert "no sample is scored: 0 of 1" in results({"a": [None]}).table()


def test_a_task_that_is_scored_by_other_names_is_not_marked_as_unscored() -> None:
    found = results({"a": [1, None]})
    other = Sample(task="b", number=0, scores={"check.part": Score(0.5)})
    tasks = (*found.tasks, Task(id="b", prompt="x"))
    lines = results({"a": [1, None]}, tasks=tasks, samples=(*found.samples, other)).table().splitlines()
    rows = {line.split("  ")[0]: line for line in lines}
    assert "1 of 1, 1 ?" in rows["a"]
    assert "1 ?" in rows["b"]  # its second sample has not run
    whole = results({"a": [1]}, tasks=tasks, samples=(found.samples[0], other)).table().splitlines()
    assert next(line for line in whole if line.startswith("b ")).split()[1] == "-"


def test_samples_that_have_not_run_have_no_score() -> None:
    found = results(FIVE)
    part = results(FIVE, samples=found.samples[:4])
    assert "no score   11   11 not run" in part.table()
    assert part.document()["not_run"] == 11


@pytest.mark.parametrize("length", [1, 30, 200])
def test_the_table_fits_78_columns(length: int) -> None:
    name, scorer = "x" * length, "s" * length
    many = results(
        {f"{name}{number}": [0.25, None, 1e6] for number in range(30)}, name=name, agent=name, model=name
    )
    samples = [
        Sample(task=each.task, number=each.number, scores={scorer: score}, cost=1e6)
        for each in many.samples
        for score in each.scores.values()
    ]
    text = results(
        {f"{name}{n}": [1, 1, 1] for n in range(30)}, samples=tuple(samples), scorers=(scorer,)
    ).table()
    assert max(map(len, f"{many.table()}\n{text}".splitlines())) <= 78
    assert "30 tasks x 3 samples" in many.table().splitlines()[0]
    assert "… 20 more: triocept stats DIR --by task" in text


def test_the_document_has_the_figures_that_programs_read() -> None:
    document = results(FIVE).document()
    assert (document["tasks"], document["samples"], document["scored"], document["errors"]) == (5, 15, 15, {})
    check = document["scores"]["check"]
    assert check["mean"] == pytest.approx(8 / 15)
    assert check["stderr"] == pytest.approx(0.16997, abs=1e-5)
    assert check["pass_at_1"] == pytest.approx(8 / 15)


def test_the_progress_counts_scores_failures_tokens_and_cost() -> None:
    counts = Counts("coding", ["check"])
    for sample in results({"a": [1, 0], "b": [None, 1]}).samples:
        counts.add(sample)
    assert (
        counts.line(8, 842.0)
        == "4 of 8 in 14m02s: 3 scored, 1 without score, check 0.667, 2.4M tokens, $0.48"
    )
