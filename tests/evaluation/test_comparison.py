"""`compare_results` and `triocept compare`: two evaluations, paired by task."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from math import inf, nan
from pathlib import Path

import pytest

from tests.cli.cli_forks import triocept as run_triocept
from tests.cli.cli_helpers import PATIENCE
from tests.evaluation.agents import ask, says
from tests.evaluation.test_statistics import results_of
from triocept.errors import TrioceptError
from triocept.evaluation import (
    Comparison,
    EvaluationResults,
    ScoreComparison,
    compare_results,
    evaluate,
    exact,
)
from triocept.fleets import InProcess, open_store


def run(**tasks: str) -> EvaluationResults:
    """An evaluation with a digit for the value of each sample; `?` is a sample without a score."""
    return results_of(
        {
            "check": {
                task: [None if each == "?" else float(each) for each in digits]
                for task, digits in tasks.items()
            }
        }
    )


A = run(a="111", b="101", c="001", d="000", e="110", gone="111")
B = run(a="111", b="111", c="011", d="001", e="110", new="000")


def triocept(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_triocept(*arguments, timeout=PATIENCE)


def only(comparison: Comparison) -> ScoreComparison:
    (score,) = comparison.scores
    return score


def test_a_difference_is_paired_by_task_and_has_the_figures_of_scipy() -> None:
    compared = compare_results(A, B)
    score = only(compared)
    assert (score.difference.mean, score.difference.stderr) == (
        pytest.approx(0.2),
        pytest.approx(0.0816497, abs=1e-6),
    )
    assert score.p == pytest.approx(0.070484, abs=1e-6)
    assert (score.a.mean, score.b.mean) == (pytest.approx(8 / 15), pytest.approx(11 / 15))
    assert score.verdict == "not told apart from chance (t test, p = 0.07)"


def test_tasks_in_one_run_only_are_named_and_are_in_no_figure() -> None:
    compared = compare_results(A, B)
    assert (compared.tasks, compared.only_a, compared.only_b) == (
        ("a", "b", "c", "d", "e"),
        ("gone",),
        ("new",),
    )
    assert only(compared).a.tasks == 5
    assert "5 tasks in both, 1 in A only, 1 in B only" in compared.table()


def test_a_task_has_flipped_if_it_passes_in_one_run_only() -> None:
    score = only(compare_results(A, B))
    assert [each.task for each in score.flipped] == ["c"]
    assert ([each.task for each in score.better], score.worse) == (["b", "c", "d"], ())


def test_a_task_without_a_score_in_one_run_is_named_and_not_compared() -> None:
    compared = compare_results(run(a="1", b="?", c="0"), run(a="1", b="1", c="1"))
    assert only(compared).unscored == ("b",)
    assert only(compared).difference.tasks == 2
    assert "not compared, because they have no score in one run: b" in compared.table()


def test_the_number_of_tasks_needed_falls_with_the_difference_to_see() -> None:
    small, large = (only(compare_results(A, B, difference=each)).tasks_needed for each in (0.05, 0.1))
    assert small is not None
    assert large == 27  # (1.95996 + 0.84162)² x 5 x 0.0816497² / 0.1²
    assert small == pytest.approx(4 * large, abs=4)
    with pytest.raises(ValueError, match="difference must be a number above 0, not 0"):
        compare_results(A, B, difference=0)


def test_the_same_run_twice_has_no_difference_and_no_interval() -> None:
    score = only(compare_results(A, A))
    assert (score.verdict, score.difference.low, score.p, score.sign_p) == (
        "no difference in any task",
        None,
        None,
        1.0,
    )


def test_equal_changes_of_two_tasks_are_no_proof_and_the_verdict_names_the_sign_test() -> None:
    score = only(compare_results(run(a="0", b="0"), run(a="1", b="1")))
    assert (score.difference.low, score.verdict) == (None, "not told apart from chance (sign test, p = 0.5)")


def test_a_task_with_another_prompt_is_named() -> None:
    tasks = (*(task for task in B.tasks if task.id != "b"), type(B.tasks[0])(id="b", prompt="another"))
    other = EvaluationResults(
        **{name: getattr(B, name) for name in B.__struct_fields__ if name != "tasks"}, tasks=tasks
    )
    compared = compare_results(A, other)
    assert compared.edited == ("b",)
    assert "another prompt, target or check in B: b" in compared.table()


@pytest.mark.parametrize(("other", "text"), [
    (run(x="1"), "no task is in both runs: the tasks of n are a, b, c, d, e, gone; those of n are x"),
    (run(a="?"), "n contains no score: 1 sample ended, and none is scored"),
    (results_of({"judge": {"a": [1.0]}}), "same score in both: the scores of n are check; those of n are judge"),
])  # fmt: skip
def test_runs_that_have_nothing_in_common_are_an_error_that_names_what_they_have(
    other: EvaluationResults, text: str
) -> None:
    with pytest.raises(TrioceptError, match=text):
        compare_results(A, other)


def test_long_names_stay_within_80_columns() -> None:
    tasks = {f"{'name' * 20}{number}": "10"[number % 2] for number in range(30)}
    flipped = {name: "01"[value == "0"] for name, value in tasks.items()}
    text = compare_results(run(**tasks), run(**flipped)).table()
    assert max(map(len, text.splitlines())) <= 80
    assert "… 18 more" in text


async def stored(place: Path, right: set[str]) -> Path:
    """The store of an evaluation of three tasks, of which these are right."""
    tasks = [
        {
            "id": name,
            "prompt": "p",
            "target": "hello" if name in right else "no",
            "metadata": {"kind": name[0]},
        }
        for name in ("a|1", "b", "=c")
    ]
    await evaluate(
        tasks, ask, model=says("hello"), scorers=exact(), samples=2, store=place, engine=InProcess()
    )
    return place


async def test_the_command_prints_text_json_markdown_and_csv(tmp_path: Path) -> None:
    a, b = await stored(tmp_path / "a", {"b"}), await stored(tmp_path / "b", {"b", "a|1"})
    printed = {
        form: triocept("compare", a, b, "--format", form) for form in ("text", "json", "markdown", "csv")
    }
    assert [done.returncode for done in printed.values()] == [0] * 4, printed
    assert "flipped 1 of 3 tasks" in printed["text"].stdout
    document = json.loads(printed["json"].stdout)
    assert document["scores"]["exact"]["flipped"] == ["a|1"]
    assert document["edited"] == ["a|1"]
    assert "| a\\|1 | 0 of 2 | 2 of 2 | +1.000 |" in printed["markdown"].stdout
    rows = [*csv.DictReader(io.StringIO(printed["csv"].stdout))]
    assert [(row["task"], row["change"], row["flipped"]) for row in rows] == [
        ("a|1", "1.0", "1"),
        ("b", "0.0", "0"),
        ("=c", "0.0", "0"),
    ]


async def with_unfinished_rescoring(place: Path) -> Path:
    """A store whose last rescoring has scored no sample."""
    file = (await stored(place, {"b"})) / "evaluation.json"
    last = {"rescorings": 1, "last_rescoring": {"scorers": {"exact": "exact"}, "tasks": ["b"]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | last))
    return place


UNFINISHED = "the rescoring by exact is not finished: 2 of 2 samples are not scored again yet"


async def test_a_store_that_is_compared_with_itself_is_noted_once(tmp_path: Path) -> None:
    store = await with_unfinished_rescoring(tmp_path / "a")
    assert triocept("compare", store, store).stderr.count(UNFINISHED) == 1


async def test_a_directory_that_is_no_evaluation_is_an_error_of_status_2(tmp_path: Path) -> None:
    a = await stored(tmp_path / "a", {"b"})
    async with open_store(tmp_path / "fleet"):
        pass
    for wrong, text in (("fleet", "not of an evaluation"), ("missing", "missing")):
        done = triocept("compare", a, tmp_path / wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("difference", ["0", "nan", "inf"])
def test_a_difference_that_is_no_number_above_0_is_a_wrong_command_line(difference: str) -> None:
    done = triocept("compare", "a", "b", "--difference", difference)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--difference" in done.stderr


async def test_a_damaged_score_in_a_store_is_an_error_that_names_its_task(tmp_path: Path) -> None:
    store = await stored(tmp_path / "a", {"b"})
    lines = store / "done.jsonl"
    lines.write_text(re.sub(r'"value":1.0\b', '"value":null', lines.read_text(), count=1))
    done = triocept("compare", store, store)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "of task 'b' in its done.jsonl cannot be read" in done.stderr


@pytest.mark.parametrize("value", [nan, inf])
def test_a_score_that_is_no_finite_number_is_an_error_that_names_its_task(value: float) -> None:
    broken = results_of({"check": {"a": [value], "b": [1.0]}})
    with pytest.raises(ValueError, match="task 'a' has a score that is not a finite number"):
        compare_results(broken, A)
