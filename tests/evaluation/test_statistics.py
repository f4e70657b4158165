"""Statistics of scores: examples worked out with scipy and Inspect, and rules that hold for any values.

`nox -s exports` compares the same functions with numpy, scipy and Inspect on drawn values.
"""

from __future__ import annotations

import random
from math import inf, nan, sqrt
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocept.errors import TrioceptError
from triocept.evaluation import _statistics as statistics
from triocept.evaluation._types import EvaluationResults, Sample, Score, Task

Values = dict[str, list[float]]


def values_of(**tasks: str) -> Values:
    return {task: [float(digit) for digit in digits] for task, digits in tasks.items()}


EXAMPLE = values_of(a="111", b="101", c="001", d="000", e="110")
OTHER = values_of(a="111", b="111", c="011", d="001", e="110")


def results_of(
    values: dict[str, dict[str, list[float | None]]], **metadata: dict[str, object]
) -> EvaluationResults:
    """Return results with these values by score and task; None is a sample without the score."""
    tasks = tuple(dict.fromkeys(task for each in values.values() for task in each))
    number = max(len(each) for score in values.values() for each in score.values())
    samples = []
    for task in tasks:
        for at in range(max(len(each.get(task, ())) for each in values.values())):
            scores = {
                name: Score(value) for name, each in values.items() if (value := each[task][at]) is not None
            }
            samples.append(
                Sample(task=task, number=at, scores=scores, reason=None if scores else "provider_error")
            )
    return EvaluationResults(
        name="n",
        agent="a",
        model="m",
        scorers=tuple(values),
        samples_per_task=number,
        tasks=tuple(Task(id=task, prompt="p", metadata=metadata.get(task, {})) for task in tasks),
        samples=tuple(samples),
        started_at=0.0,
    )


def test_the_example_has_the_figures_of_scipy_and_inspect() -> None:
    found = statistics.estimate_of(EXAMPLE)
    assert found is not None
    assert (found.mean, found.stderr) == (pytest.approx(8 / 15), pytest.approx(0.169967, abs=1e-6))
    assert (found.low, found.high) == (pytest.approx(0.1744, abs=1e-4), pytest.approx(0.8608, abs=1e-4))
    assert (found.interval, found.tasks, found.samples) == ("wilson", 5, 15)
    assert statistics.pass_at(EXAMPLE, 2).value == pytest.approx(0.7333, abs=1e-4)
    assert statistics.pass_all(EXAMPLE, 2).value == pytest.approx(0.3333, abs=1e-4)


def test_the_standard_error_is_millers_times_the_factor_of_few_tasks() -> None:
    middle, number = 8 / 15, 15
    miller = sqrt(sum(sum(value - middle for value in each) ** 2 for each in EXAMPLE.values())) / number
    found = statistics.estimate_of(EXAMPLE)
    assert found is not None
    assert found.stderr == pytest.approx(miller * sqrt(5 / 4))


def test_scores_that_are_not_all_0_or_1_have_a_t_interval() -> None:
    found = statistics.estimate_of({"a": [0.5], "b": [0.75], "c": [1.0]})
    assert found is not None
    assert found.interval == "t"
    assert found.high == pytest.approx(0.75 + 4.302653 * 0.25 / sqrt(3), abs=1e-6)


def test_one_task_has_a_mean_and_no_error_and_no_interval() -> None:
    found = statistics.estimate_of({"a": [1.0, 0.0], "b": []})
    assert found is not None
    assert (found.mean, found.stderr, found.low, found.high, found.tasks) == (0.5, None, None, None, 1)
    assert statistics.estimate_of({"a": []}) is None


def test_ten_right_of_ten_do_not_have_an_interval_of_width_0() -> None:
    found = statistics.estimate_of({str(task): [1.0] * 3 for task in range(10)})
    assert found is not None
    assert (found.stderr, found.low, found.high) == (0.0, pytest.approx(0.6615, abs=1e-4), 1.0)


def test_equal_values_that_are_not_0_or_1_have_no_interval() -> None:
    found = statistics.estimate_of({"a": [0.1] * 3, "b": [0.1] * 3})
    assert found is not None
    assert (found.stderr, found.low, found.interval) == (0.0, None, None)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_is_no_finite_number_is_an_error_that_names_its_task(value: float) -> None:
    with pytest.raises(ValueError, match="task 'b' has a score that is not a finite number"):
        statistics.estimate_of({"a": [1.0], "b": [0.0, value]})


# scipy.stats.t.ppf(0.5 + level / 2, df), scipy 1.18
QUANTILES = {
    (0.95, 1): 12.706204736174694,
    (0.95, 2): 4.302652729749462,
    (0.95, 4): 2.7764451051977934,
    (0.95, 9): 2.262157162798205,
    (0.95, 29): 2.0452296421327034,
    (0.95, 99): 1.9842169515864165,
    (0.95, 999): 1.9623414611334626,
    (0.5, 3): 0.7648923284043453,
    (0.999, 1): 636.6192487687196,
}


@pytest.mark.parametrize(("level", "df"), QUANTILES)
def test_quantiles_of_students_t_are_those_of_scipy(level: float, df: int) -> None:
    assert statistics.t_quantile(level, df) == pytest.approx(QUANTILES[level, df], rel=1e-10)


def test_a_paired_difference_has_the_figures_of_scipy() -> None:
    found = statistics.difference_of(statistics.task_means(EXAMPLE), statistics.task_means(OTHER))
    assert found is not None
    assert (found.mean, found.stderr) == (pytest.approx(0.2), pytest.approx(0.0816497, abs=1e-6))
    assert statistics.p_value(found) == pytest.approx(0.0704840, abs=1e-6)  # ttest_rel
    assert statistics.sign_test(12, 3) == pytest.approx(0.0351562, abs=1e-6)  # binomtest(3, 15)


@pytest.mark.parametrize(("samples", "needed"), [(1, 349), (3, 175)])
def test_the_tasks_needed_are_those_of_millers_formula(samples: int, needed: int) -> None:
    spread = 1 / 9 + 2 * (1 / 6) / samples
    assert statistics.tasks_needed(sqrt(spread), 1, 0.1) == needed


def test_tasks_with_fewer_than_k_samples_are_left_out_and_counted() -> None:
    found = statistics.pass_at({"a": [1.0, 0.0], "b": [1.0], "c": []}, 2)
    assert found == statistics.PassRate(k=2, value=1.0, tasks=1, left_out=2)
    assert statistics.pass_all({"a": [1.0]}, 3).value is None
    with pytest.raises(ValueError, match="1 or more"):
        statistics.pass_at({"a": [1.0]}, 0)


def test_unscored_samples_are_counted_and_their_bounds_are_0_and_1() -> None:
    results = results_of({"s": {"a": [1.0, None], "b": [0.0, 1.0]}})
    found = statistics.summary_of(results, "s")
    assert (found.scored, found.planned) == (3, 4)
    assert found.estimate is not None
    assert found.estimate.mean == 0.75
    assert (found.unscored_as_0, found.unscored_as_1) == (0.5, 0.75)
    document = found.document()
    assert (document["pass_at_1"], document["stderr"]) == (0.75, 0.25)


def test_groups_have_the_tasks_with_a_value_of_the_metadata() -> None:
    results = results_of(
        {"s": {"a": [1.0], "b": [0.0], "c": [0.5]}}, a={"kind": "x"}, b={"kind": 7}, c={"other": 1}
    )
    found = statistics.groups_of(results, ["metadata.kind"])
    assert {label: [task.id for task in each.tasks] for label, each in found.items()} == {
        ("x",): ["a"],
        ("7",): ["b"],
        ("-",): ["c"],
    }
    assert found["7",].values("s") == {"b": [0.0]}
    with pytest.raises(TrioceptError, match=r"no task has metadata\.knd; the keys .* are: kind, other"):
        statistics.groups_of(results, ["metadata.knd"])
    assert [*statistics.groups_of(results, ["metadata.kind", "task"])] == [("x", "a"), ("7", "b"), ("-", "c")]


NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=2, max_size=8))
def test_the_mean_is_the_mean_of_task_means_and_within_its_interval(values: list[list[float]]) -> None:
    found = statistics.estimate_of({str(at): each for at, each in enumerate(values)})
    means = [mean(each) for each in values]
    assert found is not None
    assert found.mean == pytest.approx(mean(means))
    assert found.stderr == pytest.approx(stdev(means) / sqrt(len(means)))
    assert found.low is None or found.high is None or found.low <= found.mean <= found.high


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=5), min_size=2, max_size=8))
def test_rates_of_passes_grow_with_k_for_any_and_fall_for_all(values: list[list[float]]) -> None:
    tasks = {str(at): each for at, each in enumerate(values)}
    number = min(map(len, values))
    rates = [statistics.pass_at(tasks, k).value or 0.0 for k in range(1, number + 1)]
    every = [statistics.pass_all(tasks, k).value or 0.0 for k in range(1, number + 1)]
    assert [*rates] == sorted(rates)
    assert [*every] == sorted(every, reverse=True)
    assert rates[0] == pytest.approx(every[0])
    found = statistics.estimate_of(tasks)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.once
@pytest.mark.parametrize("tasks", [10, 30, 100])
@pytest.mark.parametrize(("samples", "binary"), [(1, True), (3, True), (3, False)])
def test_an_interval_covers_the_true_mean_in_95_of_100_evaluations(
    tasks: int, samples: int, binary: bool
) -> None:
    draw, runs, covered = random.Random(29), 500, 0
    for _ in range(runs):
        values: Values = {}
        for task in range(tasks):
            difficulty = draw.random()
            values[str(task)] = [
                float(draw.random() < difficulty)
                if binary
                else min(1.0, max(0.0, draw.gauss(difficulty, 0.05)))
                for _ in range(samples)
            ]
        found = statistics.estimate_of(values)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / runs <= 0.995, covered / runs
