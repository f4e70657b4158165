"""What somebody gets to see who uses it for the first time, and takes it for something else."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import triocept
from tests.asking import ask
from tests.programs import run_python
from triocept import serve_endpoint

ASK = """
import json, os, urllib.request
urllib.request.urlopen(urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    data=json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode(),
    headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
))
"""


@pytest.mark.parametrize("name", ["agents", "dialects", "errors", "handlers"])
def test_the_public_rooms_are_there_after_the_import(name: str) -> None:
    done = run_python(f"import triocept; print(triocept.{name}.__name__)")
    assert done.stdout == f"triocept.{name}\n", done.stderr


@pytest.mark.parametrize(("name", "opened"), [
    ("serve_endpoint", triocept.serve_endpoint),
    ("serve_pool", triocept.serve_pool),
    ("open_upstream", lambda: triocept.open_upstream("http://localhost/v1", dialect="openai_chat")),
])  # fmt: skip
def test_under_asyncio_trio_is_asked_for(
    name: str, opened: Callable[[], AbstractAsyncContextManager[Any]]
) -> None:
    async def main() -> None:
        async with opened():
            pass

    with pytest.raises(
        RuntimeError, match=rf"{name} needs trio.*trio\.run\(main\).*triocept\.testing\.serve"
    ):
        asyncio.run(main())


def test_run_endpoint_under_asyncio_says_the_same() -> None:
    with pytest.raises(RuntimeError, match="needs trio"):
        asyncio.run(triocept.run_endpoint())


@pytest.mark.parametrize("name", list(triocept.agents.AGENTS))
async def test_a_known_agents_directory_may_be_a_str(name: str, tmp_path: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        as_str = triocept.agents.agent(name)(rollout, str(tmp_path / "d"), "hello")
        assert as_str == triocept.agents.agent(name)(rollout, tmp_path / "d", "hello")


async def test_an_agent_whose_calls_nobody_takes_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.1)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await rollout.run_agent([sys.executable, "-c", ASK])

            nursery.start_soon(run)
            nursery.start_soon(run)
            while not caplog.records:
                await trio.sleep(0.01)
            await trio.sleep(0.3)  # a second word would be here now
            nursery.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.name == "triocept.rollout"]
    assert record.levelno == logging.WARNING
    assert "give open_rollout a handler" in record.getMessage()
    assert rollout.id in record.getMessage()
    here = f"test_an_agent_whose_calls_nobody_takes_is_told_of_once ({__file__}:"
    assert f"no task takes it, while {here}" in record.getMessage()


async def logged_while(
    caplog: pytest.LogCaptureFixture,
    rollout: triocept.Rollout,
    body: Callable[[triocept.Rollout], Awaitable[None]],
    calls: int,
) -> str:
    """The one line that is logged while `body` runs and so many calls wait; a second one would be here, too."""
    async with trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(ask, rollout)
        nursery.start_soon(body, rollout)
        while not caplog.records:
            await trio.sleep(0.01)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.name == "triocept.rollout"]
    return record.getMessage()


async def test_a_call_that_comes_after_the_end_of_a_loop_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.05)

    async def answer_one(rollout: triocept.Rollout) -> None:
        async for exchange in rollout:
            await exchange.respond("the first")
            break

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        line = await logged_while(caplog, rollout, answer_one, 2)
    assert "and no loop takes it any more, while logged_while (" in line
    assert "(`async for exchange in agent`), or give open_rollout a handler" in line


async def test_a_call_that_a_loop_takes_and_never_answers_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.05)
    monkeypatch.setattr("triocept._rollout.calls.GIVEN_UP", 0.2)

    async def only_look(rollout: triocept.Rollout) -> None:
        async for _ in rollout:
            pass

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        line = await logged_while(caplog, rollout, only_look, 1)
    assert "was taken 0.2 s ago, and has no answer yet, although a loop takes the next call" in line
    assert "`await exchange.respond(…)`" in line


async def test_tasks_that_take_their_time_with_calls_of_a_loop_are_not_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.1)
    monkeypatch.setattr("triocept._rollout.calls.GIVEN_UP", 0.5)

    async def stream(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as answer:
            await answer.send("a")
            await trio.sleep(1.2)

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, rollout)
            with trio.move_on_after(1.5):
                async for exchange in rollout:
                    nursery.start_soon(stream, exchange)
    assert len(rollout.trace) == 1
    assert caplog.records == []


async def test_a_loop_that_takes_its_time_is_not_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.05)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, rollout)
            for _ in range(3):
                async for exchange in rollout:
                    await trio.sleep(0.3)
                    await exchange.respond("late")
                    break
    assert len(rollout.trace) == 3
    assert caplog.records == []
