"""`--live`: the table of calls on a terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trio
from rich.console import Console

from tests.cli.cli_helpers import AGENT, PATIENCE, on_a_terminal
from tests.view.watching import Agent
from triocept import Exchange, Price, Response, ScriptedModel, ToolCall, serve_endpoint
from triocept._cli.live_table import LiveTable
from triocept.handlers import Decision, approve
from triocept.traces import DecisionMade, RolloutEvent


def drawn(table: LiveTable, width: int, height: int = 24) -> str:
    file = io.StringIO()
    Console(file=file, width=width, height=height, force_terminal=False).print(table.picture(width, height))
    return file.getvalue()


async def test_a_call_in_flight_is_shown_with_its_words_and_then_its_tokens() -> None:
    go_on, sent = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("working on \x1b[31mit ")
            sent.set()
            await go_on.wait()
            await stream.send("done")

    table = LiveTable({"m": Price(input=1, output=1)})
    async with httpx2.AsyncClient() as client, serve_endpoint(on_event=table.take) as endpoint:
        async with endpoint.open_rollout(answer, id="my-run") as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: Agent(client, rollout).say("go", stream=True))
            await sent.wait()
            shown = drawn(table, 140)
            assert "my-run" in shown
            assert "running" in shown
            assert "working on" in shown
            assert "\x1b" not in shown
            assert "1 call in flight" in shown
            go_on.set()
        shown = drawn(table, 140)
        assert "ended" in shown
        assert "0 calls in flight" in shown


async def test_a_tool_call_that_waits_stands_first_and_failures_are_counted() -> None:
    asked, decide = trio.Event(), trio.Event()

    async def ask(call: ToolCall, exchange: Exchange) -> Decision:
        asked.set()
        await decide.wait()
        return Decision.approve()

    table = LiveTable()
    async with httpx2.AsyncClient() as client, serve_endpoint(on_event=table.take) as endpoint:
        guarded = approve(ScriptedModel([ToolCall.of("bash", command="rm x")]), {"bash": ask})
        async with endpoint.open_rollout(ScriptedModel(["hi"]), id="first") as first:
            async with endpoint.open_rollout(guarded, id="second") as second, trio.open_nursery() as nursery:
                nursery.start_soon(Agent(client, second).say, "go")
                await asked.wait()
                await Agent(client, first).say("hello")
                lines = drawn(table, 100).splitlines()
                assert lines[1].startswith("second")
                assert "waiting" in lines[1]
                assert "rm x" in lines[1]
                decide.set()


async def test_of_two_questions_with_one_id_the_table_shows_the_one_that_waits() -> None:
    made, decide = trio.Event(), trio.Event()

    async def ask(call: ToolCall, exchange: Exchange) -> Decision:
        if "rm" in call.arguments:
            await decide.wait()
        return Decision.approve()

    def take(event: RolloutEvent) -> None:
        table.take(event)
        if isinstance(event, DecisionMade):
            made.set()

    table = LiveTable()
    calls = [ToolCall("bash", json.dumps({"command": text}), id="same") for text in ("rm x", "ls")]
    async with httpx2.AsyncClient() as client, serve_endpoint(on_event=take) as endpoint:
        guarded = approve(ScriptedModel([Response.of(*calls)]), {"bash": ask})
        async with endpoint.open_rollout(guarded, id="r") as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            await made.wait()
            line = drawn(table, 100).splitlines()[1]
            assert "waiting" in line
            assert "rm x" in line
            decide.set()


@pytest.mark.parametrize("width", [20, 40, 60, 100, 140])
def test_the_table_fits_the_width_and_the_height_of_the_terminal(width: int) -> None:
    table = LiveTable()
    many = _many(table, 100)
    shown = drawn(table, width, height=12)
    assert all(len(line) <= width for line in shown.splitlines())
    assert len(shown.splitlines()) <= 12
    assert "rollout" in shown
    assert f"{many - 8} more" in shown or width < 40


def _many(table: LiveTable, count: int) -> int:
    async def run() -> None:
        async with serve_endpoint(on_event=table.take) as endpoint:
            for number in range(count):
                async with endpoint.open_rollout(ScriptedModel([]), id=f"r{number}"):
                    pass

    trio.run(run)
    return count


@pytest.mark.slow
def test_run_live_draws_on_a_terminal_and_prints_the_agents_output_at_its_end(tmp_path: Path) -> None:
    script, agent = tmp_path / "replies.json", tmp_path / "agent.py"
    script.write_text(json.dumps(["hello there"]))
    agent.write_text(AGENT)
    command = ("run", "--live", "--script", str(script), "--", sys.executable, str(agent), "0", "hi")
    shown = on_a_terminal(*command, columns=80, kind="xterm", output=False)
    assert "last words" in shown
    assert "hello there" in shown
    assert "in flight" in shown
    plain = subprocess.run(
        [sys.executable, "-m", "triocept", *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (plain.returncode, plain.stdout) == (0, "said: hello there\n")
    assert re.search(r"0 answered .*'hello there'", plain.stderr)
    assert "last words" not in plain.stderr
