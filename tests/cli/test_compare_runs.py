"""`triocept compare A B --task ID`: two runs of one task, with their turns aligned by their answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.cli_forks import triocept
from tests.cli.cli_helpers import PATIENCE, on_a_terminal
from tests.view.watching import Agent
from triocept import Endpoint, ScriptedModel, ToolCall
from triocept.errors import Refusal
from triocept.fleets import InProcess, open_fleet, open_store


async def converse(endpoint: Endpoint, task: dict[str, Any], *, attempt: int, sample: int = 0) -> None:
    replies = [
        ToolCall.of("bash", command=text) if text in ("ls", "rm") else text for text in task["replies"]
    ]
    if task.get("fails"):
        replies.append(Refusal(403, "not \x1b[31mallowed"))
    async with httpx2.AsyncClient() as client, endpoint.open_rollout(ScriptedModel(replies)) as rollout:
        agent = Agent(client, rollout)
        for number in range(len(replies)):
            await agent.say(f"question {number}")
        await rollout.score("check", sample + 0.5)
    if task.get("breaks"):
        raise ValueError("it broke")


async def stored(place: Path, *tasks: dict[str, Any], samples: int | None = None) -> Path:
    async with open_store(place) as store, open_fleet(InProcess()) as fleet:
        async with fleet.map(converse, tasks, store=store, group_size=samples) as results:
            async for _ in results:
                pass
    return place


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return triocept("compare", *arguments, timeout=PATIENCE, env={"COLUMNS": ""})


async def two_stores(folder: Path) -> tuple[Path, Path]:
    a = await stored(
        folder / "a", {"id": "t", "replies": ["ls", "one \u202etwo", "end"]}, {"id": "u", "replies": ["x"]}
    )
    b = await stored(folder / "b", {"id": "t", "replies": ["ls", "rm", "end"], "fails": True, "breaks": True})
    return a, b


async def test_turns_are_aligned_by_their_answers_and_both_runs_are_named(tmp_path: Path) -> None:
    a, b = await two_stores(tmp_path)
    result = compare(a, b, "--task", "t")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"A {a}, sample 0: ")
    assert lines[0].count("3 turns") == lines[2].count("4 turns") == 1
    assert lines[1] == "  check 0.5"
    assert "failed: " in lines[3]
    assert "it broke" in lines[3]
    assert lines[4:] == [
        "2 turns have the same answer, 2 differ",
        '=   0 bash({"command":"ls"})',
        '-   1 "one \\u202etwo"',
        '+   1 bash({"command":"rm"})',
        '=   2 "end"',
        "+   3 refused  403 not \\x1b[31mallowed",
    ]


async def test_as_json_the_pairs_are_numbers_of_turns(tmp_path: Path) -> None:
    a, b = await two_stores(tmp_path)
    document = json.loads(compare(a, b, "--task", "t", "--json").stdout)
    assert document["pairs"] == [
        {"kind": "same", "a": 0, "b": 0},
        {"kind": "changed", "a": 1, "b": 1},
        {"kind": "same", "a": 2, "b": 2},
        {"kind": "only_b", "a": None, "b": 3},
    ]
    assert (document["task"], document["a"]["turns"], document["b"]["turns"]) == ("t", 3, 4)
    assert (document["a"]["scores"], document["a"]["error"]) == ({"check": 0.5}, None)
    assert "it broke" in document["b"]["error"]


@pytest.mark.slow
async def test_on_a_terminal_the_runs_stand_side_by_side_within_its_width(tmp_path: Path) -> None:
    a, b = await two_stores(tmp_path)
    options = ["compare", str(a), str(b), "--task", "t"]
    lines = on_a_terminal(*options, columns=90, kind="xterm", output=True, NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= 90
    (changed,) = [line for line in lines if line.startswith("~")]
    left, right = changed.split("│")
    assert "one" in left
    assert "rm" in right
    narrow = on_a_terminal(*options, columns=40, kind="xterm", output=True, NO_COLOR="1").splitlines()
    assert max(map(len, narrow)) <= 40
    assert any(line.startswith("-   1") for line in narrow)


async def test_two_samples_of_one_store_can_be_compared(tmp_path: Path) -> None:
    store = await stored(tmp_path / "a", {"id": "t", "replies": ["x"]}, samples=2)
    document = json.loads(
        compare(store, store, "--task", "t", "--sample", "0", "--sample", "1", "--json").stdout
    )
    assert [document[name]["sample"] for name in "ab"] == [0, 1]
    assert [document[name]["scores"]["check"] for name in "ab"] == [0.5, 1.5]
    both = json.loads(compare(store, store, "--task", "t", "--sample", "1", "--json").stdout)
    assert [both[name]["sample"] for name in "ab"] == [1, 1]


async def test_a_task_or_sample_that_is_not_there_is_an_error_that_names_what_is(tmp_path: Path) -> None:
    a, b = await two_stores(tmp_path)
    for options, status, text in (
        (("--task", "u"), 1, f"{b} contains no result of a task 'u'; its tasks are: t"),
        (("--task", "x"), 1, f"{a} contains no result of a task 'x'; its tasks are: t, u"),
        (("--task", "t", "--sample", "3"), 1, "has no sample 3; this store contains the samples 0"),
        (("--task", "t", "--format", "csv"), 2, "--format csv cannot be used with --task"),
        (("--task", "t", *["--sample", "0"] * 3), 2, "given 3 times"),
        (("--sample", "0"), 2, "--sample needs --task"),
    ):
        result = compare(a, b, *options)
        assert (result.returncode, result.stdout) == (status, ""), options
        assert text in result.stderr, options
    nothing = compare(tmp_path, a, "--task", "t")
    assert nothing.returncode == 2
    assert "is not a store" in nothing.stderr
