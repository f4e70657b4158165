"""The built-in scorers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.agents import ask, says
from tests.evaluation.test_readers import harbor_task
from triocept.evaluation import (
    Sample,
    answer_of,
    check_command,
    evaluate,
    exact,
    file_content,
    harbor_reward,
    includes,
    read_tasks,
    regex,
)
from triocept.traces import Trace


async def scored(scorer: Any, said: str = "It is 42.", **task: Any) -> Sample:
    document = {"id": "a", "prompt": "17 + 25?", "target": "42"} | task
    (sample,) = (await evaluate([document], ask, model=says(said), scorers=scorer)).samples
    return sample


async def value(scorer: Any, said: str = "It is 42.", **task: Any) -> float:
    (score,) = (await scored(scorer, said, **task)).scores.values()
    return score.value


async def test_exact_compares_the_whole_answer() -> None:
    assert await value(exact(), " 42\n") == 1
    assert await value(exact()) == 0
    assert await value(exact(), "B", target=["a", "b"]) == 0
    assert await value(exact(ignore_case=True), "B", target=["a", "b"]) == 1


async def test_includes_finds_a_target_in_the_answer() -> None:
    assert await value(includes()) == 1
    assert await value(includes(), "It is FOUR.", target=["four", "4"]) == 1
    assert await value(includes(ignore_case=False), "It is FOUR.", target="four") == 0


async def test_regex_searches_the_answer_line_by_line() -> None:
    assert await value(regex(r"^\d+$"), "so:\n42\n") == 1
    assert await value(regex(), "It is 42.", target=r"\b4\d\b") == 1
    assert await value(regex(), "It is 52.", target=r"\b4\d\b") == 0
    sample = await scored(regex(r"\d+"))
    assert sample.scores["regex"].answer == "42"
    with pytest.raises(re.error):
        regex("(")


async def test_file_content_compares_a_file_and_a_missing_file_is_0() -> None:
    assert await value(file_content("out.txt", "It is 42."), "It is 42.") == 1
    assert await value(file_content("out.txt"), "42\n") == 1
    sample = await scored(file_content("other.txt"))
    assert sample.scores["file"].value == 0
    assert sample.scores["file"].explanation == "the working directory has no file other.txt"


async def test_a_check_command_scores_by_its_exit_status_and_keeps_its_output() -> None:
    sample = await scored(check_command(), check="cat out.txt; echo odd >&2; exit 3")
    assert sample.scores["check"].value == 0
    assert sample.scores["check"].explanation == "exit status 3\nIt is 42.\nodd"
    assert await value(check_command(), check=["grep", "-q", "42", "out.txt"]) == 1


@pytest.mark.parametrize(("tests", "scores"), [
    ("grep -q 42 /app/out.txt && echo 1 > /logs/verifier/reward.txt", {"reward": 1.0}),
    ("echo 0.25 > /logs/verifier/reward.txt; exit 9", {"reward": 0.25}),
    ("[ -f out.txt ] && cp /tests/reward.json /logs/verifier/", {"reward.a": 1.0, "reward.b": 0.5}),
])  # fmt: skip
async def test_the_reward_of_a_harbor_task_is_what_its_tests_write(
    tmp_path: Path, tests: str, scores: dict[str, float]
) -> None:
    folder = harbor_task(tmp_path / "a", tests=tests)
    (folder / "tests/reward.json").write_text('{"a": 1, "b": 0.5}')
    results = await evaluate(folder, ask, model=says("42"), scorers=harbor_reward())
    (sample,) = results.samples
    assert {name: score.value for name, score in sample.scores.items()} == scores, sample.explanation


@pytest.mark.parametrize(("tests", "reason"), [
    ("exit 0", "scorer_failed"),
    ("echo nan > /logs/verifier/reward.txt", "invalid_score"),
    ("touch /logs/verifier/reward.txt", "invalid_score"),
    ("""echo '{"a": "x"}' > /logs/verifier/reward.json""", "invalid_score"),
])  # fmt: skip
async def test_a_harbor_task_without_a_reward_has_no_score(tmp_path: Path, tests: str, reason: str) -> None:
    folder = harbor_task(tmp_path / "a", tests=tests)
    (sample,) = (await evaluate(folder, ask, model=says("42"), scorers=harbor_reward())).samples
    assert (sample.reason, sample.scores) == (reason, {})


def test_the_tasks_of_harbor_are_those_that_the_scorer_can_score(tmp_path: Path) -> None:
    (task,) = read_tasks(harbor_task(tmp_path / "a")).tasks
    assert harbor_reward().problem(task) is None
    assert "not read from a folder in Harbor's format" in str(
        harbor_reward().problem(type(task)(id="a", prompt="x"))
    )


def test_an_empty_trace_has_no_answer() -> None:
    assert answer_of(Trace("r")) == ""
