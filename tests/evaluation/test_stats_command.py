"""`triocept stats` shows the scores of an evaluation, by task, scorer and metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.test_comparison import stored, triocept


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    return await stored(tmp_path / "run", {"b"})


async def test_scores_are_shown_above_the_calls(store: Path) -> None:
    done = triocept("stats", store)
    assert done.returncode == 0, done.stderr
    head, rows, *rest = done.stdout.split("score ")[0], *done.stdout.split("\n")[1:4]
    assert "6 of 6 samples scored" in head
    assert rows.split()[:3] == ["score", "mean", "se"]
    assert rest[0].split() == [
        "exact",
        "0.333",
        "0.333",
        "0.01",
        "..",
        "0.96",
        "0.333",
        "0.333",
        "6",
        "of",
        "6",
    ]
    assert "6 rollouts, 6 sealed, 6 calls" in done.stdout


async def test_by_task_has_a_row_for_each_task_without_the_table_of_calls(store: Path) -> None:
    lines = triocept("stats", store, "--by", "task").stdout.splitlines()
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["a|1", "0", "of", "2"],
        ["b", "2", "of", "2"],
        ["=c", "0", "of", "2"],
    ]
    assert not any("rollouts" in line for line in lines)


async def test_by_metadata_and_scorer_has_a_row_for_each_group_and_score(store: Path) -> None:
    printed = triocept("stats", store, "--by", "metadata.kind", "--by", "scorer").stdout.splitlines()
    assert [line.split()[:3] for line in printed[1:5]] == [
        ["metadata.kind", "score", "mean"],
        ["a", "exact", "0.000"],
        ["b", "exact", "1.000"],
        ["=", "exact", "0.000"],
    ]


async def test_json_has_the_scores_and_the_sums_of_each_group(store: Path) -> None:
    document = json.loads(triocept("stats", store, "--by", "task", "--json").stdout)
    (found,) = document["evaluations"]
    assert (found["tasks"], found["samples"], found["scored"]) == (3, 6, 6)
    assert found["scores"]["exact"]["pass_at_1"] == pytest.approx(1 / 3)
    assert [group["task"] for group in found["groups"]] == ["a|1", "b", "=c"]
    assert [group["scores"]["exact"]["mean"] for group in found["groups"]] == [0.0, 1.0, 0.0]
    assert [group["used"]["turns"] for group in found["groups"]] == [2, 2, 2]


async def test_wrong_groups_are_an_error_that_names_what_there_is(store: Path, tmp_path: Path) -> None:
    done = triocept("stats", store, "--by", "metadata.knd")
    assert (done.returncode, "the keys of the metadata are: kind" in done.stderr) == (1, True)
    done = triocept("stats", store, "--by", "tsk")
    assert (done.returncode, "task" in done.stderr) == (2, True)
    (tmp_path / "other.jsonl").write_text("")
    done = triocept("stats", tmp_path / "other.jsonl", "--by", "task")
    assert (done.returncode, "no FILE is the store of an evaluation" in done.stderr) == (1, True)
