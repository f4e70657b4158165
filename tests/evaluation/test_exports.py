"""Results as files of Inspect, verifiers and Harbor. `nox -s exports` reads them with the packages of these formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.agents import behave, says
from tests.evaluation.test_comparison import UNFINISHED, stored, triocept, with_unfinished_rescoring
from tests.evaluation.test_statistics import results_of
from triocept.evaluation import EvaluationResults, Score, evaluate, exact, read_results
from triocept.evaluation._exports import write_results
from triocept.exports._formats import RESULT_FORMATS
from triocept.fleets import InProcess, open_store


def reviewed(trace: Any, task: Any, workdir: Path) -> Score:
    return Score(0.5, answer="its answer", explanation="because\nit is")


async def demo(place: Path) -> EvaluationResults:
    """An evaluation with a right, a wrong, a slow and a silent task, two samples each."""
    tasks = [
        {"id": "right/one", "prompt": "Say hello.", "target": "hello", "metadata": {"kind": "x"}},
        {"id": "right one", "prompt": "Say bye.", "target": ["bye", "ciao"]},
        {"id": "slow", "prompt": "Wait.", "target": "hello", "time_limit": 0.3},
        {"id": "silent", "prompt": "Be silent.", "target": "hello"},
    ]
    await evaluate(
        tasks,
        behave,
        model=says("hello"),
        scorers=[exact(), reviewed],
        samples=2,
        store=place,
        engine=InProcess(),
    )
    return read_results(place)


@pytest.fixture
async def results(tmp_path: Path) -> EvaluationResults:
    return await demo(tmp_path / "run")


async def test_inspect_has_task_ids_epochs_prompts_answers_and_explanations(
    results: EvaluationResults, tmp_path: Path
) -> None:
    write_results(results, "inspect", tmp_path / "log.json")
    text = (tmp_path / "log.json").read_text()
    log = json.loads(text)
    places = [(sample["id"], sample["epoch"]) for sample in log["samples"]]
    assert places == [(task.id, epoch) for task in results.tasks for epoch in (1, 2)]
    right, other, slow, silent = log["samples"][::2]
    assert (right["input"], right["target"]) == ("Say hello.", "hello")
    assert other["target"] == ["bye", "ciao"]
    assert right["scores"]["exact"] == {"value": 1.0, "answer": "hello"}
    assert right["scores"]["reviewed"] == {
        "value": 0.5,
        "answer": "its answer",
        "explanation": "because\nit is",
    }
    assert (slow["limit"], "error" in slow) == ({"type": "time", "limit": 0.3}, False)
    assert silent["scores"] == {}
    assert silent["error"]["message"].startswith("no_model_call: the agent never called the model")
    assert right["metadata"]["kind"] == "x"
    assert log["stats"]["completed_at"] > log["stats"]["started_at"]
    assert "NaN" not in text
    assert log["results"]["total_samples"] == 8
    assert [each["metrics"]["mean"]["value"] for each in log["results"]["scores"]] == [
        pytest.approx(2 / 3),
        0.5,
    ]


async def test_a_task_without_a_target_has_an_empty_target(tmp_path: Path) -> None:
    found = results_of({"s": {"a": [1.0, None], "b": [0.0]}})
    write_results(found, "inspect", tmp_path / "log.json")
    log = json.loads((tmp_path / "log.json").read_text())
    assert [(each["target"], each["input"]) for each in log["samples"]] == [("", "p")] * 3
    assert [len(each["scores"]) for each in log["samples"]] == [1, 0, 1]
    assert log["results"]["scores"][0]["scored_samples"] == 2


async def test_the_scores_of_a_sample_stand_in_each_format_although_another_scorer_failed(
    tmp_path: Path,
) -> None:
    def fails(trace: Any, task: Any, workdir: Path) -> float:
        raise LookupError("no such row")

    task = {"id": "a", "prompt": "Say hello.", "target": "hello"}
    found = await evaluate([task], behave, model=says("hello"), scorers=[fails, exact()])
    for form in RESULT_FORMATS:
        write_results(found, form, tmp_path / form)
    log = json.loads((tmp_path / "inspect").read_text())
    (sample,) = log["samples"]
    assert ([*sample["scores"]], "error" in sample, log["results"]["completed_samples"]) == (
        ["exact"],
        False,
        1,
    )
    assert sample["metadata"]["triocept"]["failures"]["fails"][0] == "scorer_failed"
    episode = json.loads((tmp_path / "verifiers").read_text())
    assert (episode["ok"], [*episode["traces"][0]["rewards"]]) == (False, ["exact"])
    assert episode["traces"][0]["errors"][0]["type"] == "scorer_failed"
    trial = json.loads((tmp_path / "harbor" / "a__1" / "result.json").read_text())
    assert trial["verifier_result"] == {"rewards": {"exact": 1.0}}
    assert trial["exception_info"]["exception_type"] == "scorer_failed"


async def test_results_without_any_score_are_written_in_each_format(tmp_path: Path) -> None:
    found = results_of({"s": {"a": [None], "b": [None]}})
    for form in RESULT_FORMATS:
        write_results(found, form, tmp_path / form)
    assert json.loads((tmp_path / "inspect").read_text())["results"]["completed_samples"] == 0
    assert json.loads((tmp_path / "harbor" / "result.json").read_text())["stats"]["n_errored_trials"] == 2
    assert [json.loads(line)["ok"] for line in (tmp_path / "verifiers").read_text().splitlines()] == [
        False,
        False,
    ]


async def test_verifiers_has_an_episode_for_each_sample_with_its_task_and_rewards(
    results: EvaluationResults, tmp_path: Path
) -> None:
    write_results(results, "verifiers", tmp_path / "traces.jsonl")
    episodes = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert [each["task"]["data"]["id"] for each in episodes[::2]] == [task.id for task in results.tasks]
    assert episodes[0]["traces"][0]["rewards"] == {
        "exact": {"score": 1.0, "weight": 0.5},
        "reviewed": {"score": 0.5, "weight": 0.5},
    }
    (silent,) = episodes[-1]["traces"]
    assert (episodes[-1]["ok"], silent["rewards"], silent["errors"][0]["type"]) == (
        False,
        {},
        "no_model_call",
    )
    write_results(results, "verifiers", tmp_path / "one.jsonl", reward="exact")
    (first,) = json.loads((tmp_path / "one.jsonl").read_text().splitlines()[0])["traces"]
    assert (first["rewards"], first["metrics"]) == (
        {"exact": {"score": 1.0, "weight": 1.0}},
        {"reviewed": 0.5},
    )
    with pytest.raises(ValueError, match="there is no score 'exakt'; there are exact, reviewed"):
        write_results(results, "verifiers", tmp_path / "two.jsonl", reward="exakt")


async def test_harbor_has_a_trial_for_each_sample_also_of_tasks_with_similar_names(
    results: EvaluationResults, tmp_path: Path
) -> None:
    write_results(results, "harbor", tmp_path / "job")
    trials = {
        path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "job").glob("*/result.json")
    }
    assert sorted(trials) == [
        *("right-one__1", "right-one__1-2", "right-one__2", "right-one__2-2"),
        *("silent__1", "silent__2", "slow__1", "slow__2"),
    ]
    assert trials["right-one__1"]["task_name"] == "right/one"
    assert trials["right-one__1"]["verifier_result"] == {"rewards": {"exact": 1.0, "reviewed": 0.5}}
    assert trials["slow__1"]["exception_info"]["exception_type"] == "AgentTimeoutError"
    assert trials["silent__1"]["verifier_result"] is None
    job = json.loads((tmp_path / "job" / "result.json").read_text())
    assert (job["n_total_trials"], job["stats"]["n_errored_trials"]) == (8, 4)


async def test_the_command_writes_results_of_an_evaluation_with_their_directory_and_replaces_nothing(
    tmp_path: Path,
) -> None:
    store = await stored(tmp_path / "run", {"b"})
    out = tmp_path / "logs" / "new" / "log.json"
    done = triocept("export", "--to", "inspect", store, "-o", out)
    assert (done.returncode, done.stderr.startswith("▸ 6 samples of 3 tasks in ")) == (0, True)
    assert [each["id"] for each in json.loads(out.read_text())["samples"][::2]] == ["a|1", "b", "=c"]
    assert triocept("export", "--to", "inspect", store, "-o", out).returncode == 2
    assert triocept("export", "--to", "inspect", store, "-o", out, "--force").returncode == 0
    printed = triocept("export", "--to", "verifiers", store, "-o", "-").stdout.splitlines()
    assert len(printed) == 6
    assert triocept("export", "--to", "harbor", store, "-o", "-").returncode == 2
    assert triocept("export", "--to", "harbor", store, "-o", tmp_path / "job").returncode == 0
    assert len([*(tmp_path / "job").glob("*__*/result.json")]) == 6


async def test_an_export_reports_an_unfinished_rescoring_and_missing_samples(tmp_path: Path) -> None:
    store = await with_unfinished_rescoring(tmp_path / "run")
    done = store / "done.jsonl"
    lines = done.read_text().splitlines(keepends=True)
    lines.remove(next(line for line in lines if '"key":"=c"' in line))
    done.write_text("".join(lines))
    printed = triocept("export", "--to", "inspect", store, "-o", "-").stderr
    assert printed == f"▸ {UNFINISHED}\n▸ 5 of 6 samples of 3 tasks\n"
    document = json.loads(triocept("stats", "--json", store).stdout)
    assert document["evaluations"][0]["unfinished"] == UNFINISHED


async def test_harbor_needs_the_store_of_an_evaluation(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet"):
        pass
    done = triocept("export", "--to", "harbor", tmp_path / "fleet", "-o", tmp_path / "job")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: --to harbor needs the store of an evaluation as its only FILE\n",
    )
    assert not (tmp_path / "job").exists()
