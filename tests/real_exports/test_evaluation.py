"""Statistics and results of evaluations, compared with numpy, scipy, Inspect, Harbor and verifiers on drawn scores."""

from __future__ import annotations

import json
import random
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_exports import demo
from tests.evaluation.test_statistics import results_of
from tests.real_exports.environments import read
from triocept.evaluation import EvaluationResults, compare_results
from triocept.evaluation import _statistics as statistics
from triocept.evaluation._exports import write_results

CASES = 300


def drawn(draw: random.Random, tasks: int, samples: int, *, binary: bool) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for task in range(tasks):
        difficulty = draw.random()
        number = samples if draw.random() < 0.7 else draw.randint(1, samples)
        values[f"t{task}"] = [
            float(draw.random() < difficulty) if binary else round(draw.gauss(difficulty, 1), 3)
            for _ in range(number)
        ]
    return values


def test_statistics_are_those_of_numpy_scipy_and_inspect(tmp_path: Path) -> None:
    draw = random.Random(29)
    cases = []
    for number in range(CASES):
        tasks, samples, binary = draw.randint(2, 40), draw.randint(1, 5), number % 3 > 0
        a, b = (drawn(draw, tasks, samples, binary=binary) for _ in range(2))
        cases.append({"a": a, "b": b})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    seen = dict.fromkeys(("clustered", "wilson", "p"), 0)
    for case, theirs in zip(cases, read("score_statistics", tmp_path / "cases.json"), strict=True):
        a, expected = case["a"], theirs["a"]
        ours = statistics.estimate_of(a)
        assert ours is not None
        assert (ours.mean, ours.stderr) == (
            pytest.approx(expected["mean"], abs=1e-12),
            pytest.approx(expected["stderr"], abs=1e-12),
        )
        if "clustered" in expected:
            seen["clustered"] += 1
            assert ours.stderr == pytest.approx(expected["clustered"], abs=1e-12)
        if "wilson" in expected and 0 < ours.mean < 1:
            seen["wilson"] += 1
            bounds = (expected["wilson"]["lower"], expected["wilson"]["upper"])
            assert (ours.low, ours.high) == pytest.approx(bounds, abs=1e-9)
        if ours.interval == "t":
            assert ours.high == pytest.approx(ours.mean + expected["half"], abs=1e-9)
        for k, rates in expected["pass"].items():
            found = (statistics.pass_at(a, int(k)).value, statistics.pass_all(a, int(k)).value)
            assert found == pytest.approx(rates, abs=1e-12)
        difference = statistics.difference_of(*map(statistics.task_means, (a, case["b"])))
        assert difference is not None
        if not isnan(theirs["p"]) and difference.stderr:
            seen["p"] += 1
            assert statistics.p_value(difference) == pytest.approx(theirs["p"], abs=1e-9)
            assert (difference.low, difference.high) == pytest.approx(theirs["interval"], abs=1e-9)
        compared = compare_results(of_values(a), of_values(case["b"])).scores[0]
        assert compared.sign_p == pytest.approx(theirs["sign"], abs=1e-9)
    assert min(seen.values()) > 30, seen


def of_values(values: dict[str, list[float]]) -> EvaluationResults:
    return results_of({"s": dict(values)})  # type: ignore[arg-type]


def inspected(results: EvaluationResults, path: Path) -> dict[str, Any]:
    write_results(results, "inspect", path)
    found = read("inspect_results", path)
    one, other = (sorted(found[kind]["samples"], key=lambda each: each["place"]) for kind in ("json", "eval"))
    assert one == other  # `.eval` has them in another order
    log: dict[str, Any] = found["json"]
    return log


async def test_inspect_computes_our_means_and_errors_anew_and_keeps_each_sample(tmp_path: Path) -> None:
    results = await demo(tmp_path / "run")
    log = inspected(results, tmp_path / "log.json")
    for name in results.score_names:
        ours = statistics.estimate_of(results.values(name))
        assert ours is not None
        for figures in (log["said"][name], log["computed"][name]):
            assert figures == pytest.approx({"mean": ours.mean, "stderr": ours.stderr})
    assert [each["place"] for each in log["samples"]] == [
        [task.id, epoch] for task in results.tasks for epoch in (1, 2)
    ]
    assert log["counts"] == [8, 6]
    assert log["samples"][0]["scores"]["reviewed"]["explanation"] == "because\nit is"
    assert log["samples"][4]["limit"] == "time"
    assert log["samples"][6]["error"].startswith("no_model_call")
    assert log["started"] < log["completed"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_inspect_computes_our_means_of_drawn_scores_with_lost_samples(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    values = {
        task: [*each, *[None] * (4 - len(each))]
        for task, each in drawn(draw, 20, 4, binary=seed % 2 == 0).items()
    }
    results = results_of({"s": values})  # type: ignore[dict-item]
    log = inspected(results, tmp_path / "log.json")
    assert log["computed"]["s"] == pytest.approx(log["said"]["s"])


async def test_harbors_models_read_the_job_and_count_the_same(tmp_path: Path) -> None:
    results = await demo(tmp_path / "run")
    write_results(results, "harbor", tmp_path / "job")
    found = read("harbor_job", tmp_path / "job")
    assert found["said"] == found["computed"]
    assert found["trials"]["slow__1"] == ["slow", True, {"exact": 1.0, "reviewed": 0.5}]
    assert found["trials"]["silent__1"] == ["silent", False, None]


async def test_verifiers_reads_the_episodes(tmp_path: Path) -> None:
    results = await demo(tmp_path / "run")
    (tmp_path / "out").mkdir()
    write_results(results, "verifiers", tmp_path / "out" / "traces.jsonl", reward="exact")
    found = read("verifiers_episodes", tmp_path / "out")
    assert [each["ok"] for each in found] == [True] * 6 + [False] * 2
    assert [each["traces"][0]["reward"] for each in found[:5:2]] == [1.0, 0.0, 1.0]
    assert [error for each in found[6:] for error in each["traces"][0]["errors"]] == ["no_model_call"] * 2
