"""`triocept fleet --live` and `--view`: rollouts of workers, as seen by the driver."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from click.testing import CliRunner

from tests.cli.cli_helpers import AGENT, on_a_terminal
from tests.cli.test_live_table import drawn
from tests.view.watching import Agent, Viewer
from triocept import Endpoint, Exchange, Price, ScriptedModel, serve_endpoint
from triocept._cli.commands import main
from triocept._cli.fleet_live import followed_store, serve_view
from triocept._cli.live_table import LiveTable
from triocept._view.live import LiveView
from triocept.fleets import InProcess, Processes, open_fleet, open_store

PRICES = {"m": Price(input=1_000_000, output=0)}


async def one_call(endpoint: Endpoint, task: dict[str, Any], *, attempt: int) -> None:
    """Make one call; its handler answers when the file that the task names is there."""
    go_on = Path(task["file"])

    async def answer(exchange: Exchange) -> None:
        while not go_on.exists():
            await trio.sleep(0.01)
        await exchange.respond("done with it")

    async with httpx2.AsyncClient() as client, endpoint.open_rollout(answer) as rollout:
        await Agent(client, rollout).say("go")


async def die_once(endpoint: Endpoint, task: dict[str, Any], *, attempt: int) -> None:
    """End the worker during the first attempt, with a call in flight, when the file that the task names is there."""

    async def answer(exchange: Exchange) -> None:
        while attempt == 1 and not Path(task["file"]).exists():
            await trio.sleep(0.01)
        if attempt == 1:
            os._exit(1)
        await exchange.respond("survived")

    async with httpx2.AsyncClient() as client, endpoint.open_rollout(answer) as rollout:
        await Agent(client, rollout).say("go")


async def until(view: LiveView, state: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many rollouts have this state, and return their rows."""
    while len(rows := [row for row in view.snapshot()["rows"] if row["state"] == state]) < count:
        await trio.sleep(0.01)
    return rows


@pytest.mark.parametrize(
    "engine",
    [InProcess(2), pytest.param(Processes(2), marks=pytest.mark.once)],
    ids=["in-process", "processes"],
)
async def test_calls_in_flight_in_workers_are_seen_and_then_their_turns(tmp_path: Path, engine: Any) -> None:
    file = tmp_path / "go"
    table, view = LiveTable(PRICES), LiveView("run")
    with trio.fail_after(60):
        async with open_store(tmp_path / "run") as store, open_fleet(engine) as fleet:
            async with followed_store(fleet, tmp_path / "run", PRICES, table, view):
                tasks = [{"id": name, "file": str(file)} for name in ("a", "b")]
                async with fleet.map(one_call, tasks, store=store) as results:
                    rows = await until(view, "running", 2)
                    assert {row["metadata"]["fleet"]["task"] for row in rows} == {"a", "b"}
                    call = next(iter(view.runs[rows[0]["run"]].calls.values()))
                    assert view.runs[rows[0]["run"]].detail(call["id"])["call"]["text"] == "go"
                    shown = drawn(table, 140)
                    assert "2 calls in flight" in shown
                    assert [line.split()[:2] for line in shown.splitlines()[1:3]] in (
                        [["a", "running"], ["b", "running"]],
                        [["b", "running"], ["a", "running"]],
                    )
                    file.touch()
                    async for result in results:
                        assert result.outcome
    rows = view.snapshot()["rows"]
    assert [(row["state"], row["turns"], row["text"]) for row in rows] == [("ended", 1, "done with it")] * 2
    assert {row["cost"] for row in rows} == {12.0}
    shown = drawn(table, 140)
    assert "0 calls in flight, all: 2 turns" in shown
    assert "cost 24" in shown
    assert "done with it" in shown


@pytest.mark.once
async def test_rollouts_of_a_worker_that_dies_are_ended_and_its_calls_are_not_in_flight(
    tmp_path: Path,
) -> None:
    table, view = LiveTable(), LiveView("run")
    with trio.fail_after(60):
        async with open_store(tmp_path / "run") as store, open_fleet(Processes(1)) as fleet:
            async with followed_store(fleet, tmp_path / "run", None, table, view):
                seen = tmp_path / "seen"
                async with fleet.map(die_once, [{"id": "a", "file": str(seen)}], store=store) as results:
                    await until(view, "running")
                    seen.touch()
                    [lost] = await until(view, "cut")
                    assert lost["in_flight"] == 0
                    async for result in results:
                        assert result.attempt == 2
    assert sorted(row["state"] for row in view.snapshot()["rows"]) == ["cut", "ended"]
    assert "0 calls in flight" in drawn(table, 140)


async def test_a_cancelled_run_ends_at_once_with_its_display(tmp_path: Path) -> None:
    view = LiveView("run")
    with trio.fail_after(60):
        async with open_store(tmp_path / "run") as store:
            with trio.CancelScope() as scope:
                async with (
                    open_fleet(InProcess()) as fleet,
                    followed_store(fleet, tmp_path / "run", None, None, view),
                    fleet.map(one_call, [{"id": "a", "file": "/nowhere/x"}], store=store),
                ):
                    await until(view, "running")
                    scope.cancel()
                    await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_resumed_run_shows_its_own_rollouts_and_a_damaged_line_ends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "go"
    file.touch()
    view = LiveView("run")
    with trio.fail_after(60):
        for name in ("a", "b"):
            async with open_store(tmp_path / "run") as store, open_fleet(InProcess()) as fleet:
                async with followed_store(fleet, tmp_path / "run", None, None, view if name == "b" else None):
                    strange = tmp_path / "run" / "traces" / f"{name}.jsonl"
                    strange.write_text('{"type":"open","version":99}\n' if name == "b" else "hello\n")
                    tasks = [{"id": name, "file": str(file)}]
                    async with fleet.map(one_call, tasks, store=store) as results:
                        async for result in results:
                            assert result.key == name
    assert [row["metadata"]["fleet"]["task"] for row in view.snapshot()["rows"]] == ["b"]


async def test_the_page_of_a_fleet_is_live_does_not_decide_and_says_goodbye(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with trio.fail_after(20):
        async with httpx2.AsyncClient() as client, AsyncExitStack() as stack:
            async with serve_view(True, "runs/today") as view:
                assert view is not None
                viewer = Viewer(client, capfd.readouterr().err.split()[-1])
                events = await stack.enter_async_context(viewer.stream())
                snapshot = await events.until("snapshot")
                shown = {name: snapshot[name] for name in ("title", "live", "can_decide")}
                assert shown == {"title": "runs/today", "live": True, "can_decide": False}
                assert (await viewer.decide(id="q_1", kind="approve")).status_code == 409
            await events.until("bye")
        async with serve_view(False, "") as nothing:
            assert nothing is None


async def test_a_store_that_is_removed_meanwhile_ends_no_rollout(tmp_path: Path) -> None:
    view, file = LiveView("run"), tmp_path / "go"
    with trio.fail_after(60):
        async with open_store(tmp_path / "run"), open_fleet(InProcess()) as fleet:
            async with followed_store(fleet, tmp_path / "run", None, None, view):
                shutil.rmtree(tmp_path / "run")
                async with fleet.map(one_call, [{"id": "a", "file": str(file)}]) as results:
                    file.touch()
                    assert [type(result.outcome).__name__ async for result in results] == ["Value"]


async def test_an_error_of_the_display_ends_no_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def take(table: LiveTable, event: object) -> None:
        raise ValueError("a strange event")

    monkeypatch.setattr(LiveTable, "take", take)
    file = tmp_path / "go"
    file.touch()
    with trio.fail_after(60):
        async with open_store(tmp_path / "run") as store, open_fleet(InProcess()) as fleet:
            async with followed_store(fleet, tmp_path / "run", None, LiveTable(), None):
                async with fleet.map(one_call, [{"id": "a", "file": str(file)}], store=store) as results:
                    assert [type(result.outcome).__name__ async for result in results] == ["Value"]
    assert "are not shown any more: " in (said := capfd.readouterr().err)
    assert "a strange event" in said


@pytest.mark.slow
def test_fleet_live_draws_below_the_progress_and_leaves_the_usual_lines(tmp_path: Path) -> None:
    script, agent, tasks = tmp_path / "replies.json", tmp_path / "agent.py", tmp_path / "tasks.jsonl"
    script.write_text(json.dumps(["hello \x1b[31mthere"]))
    agent.write_text(AGENT.replace("import", "import time; time.sleep(1); import", 1))
    tasks.write_text('{"prompt": "hi", "id": "my-task"}\n')
    options = ["--tasks", str(tasks), "--store", str(tmp_path / "run"), "--engine", "processes:1"]
    command = ["fleet", "--live", *options, "--script", str(script), "--", sys.executable, str(agent)]
    shown = on_a_terminal(*command, "0", "{prompt}", columns=100, kind="xterm")
    assert "last words" in shown
    assert "my-task" in shown
    assert "\x1b[31mthere" not in shown
    assert "1 of 1 done" in shown


def test_fleet_live_and_quiet_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "hi"}\n')
    options = [
        "--tasks",
        str(tmp_path / "tasks.jsonl"),
        "--store",
        str(tmp_path / "run"),
        "--live",
        "--quiet",
    ]
    result = CliRunner().invoke(main, ["fleet", *options, "--", "true", "{prompt}"])
    assert result.exit_code == 2
    assert "--live and --quiet exclude each other" in result.output


def test_of_rollouts_that_have_ended_the_table_keeps_the_latest_and_the_sum_of_all() -> None:
    table = LiveTable()

    async def run() -> None:
        async with httpx2.AsyncClient() as client, serve_endpoint(on_event=table.take) as endpoint:
            for number in range(60):
                async with endpoint.open_rollout(ScriptedModel(["x"]), id=f"r{number}") as rollout:
                    await Agent(client, rollout).say("go")

    trio.run(run)
    assert len(table._rows) == 50
    shown = drawn(table, 140, height=12)
    assert "52 more rollouts, all: 60 turns" in shown
    assert "r59" in shown
