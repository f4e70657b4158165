"""A call that waits long: one line, which names what it waits for."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from cli_helpers import AGENT

from tests.asking import ask
from triocept import Exchange, serve_endpoint
from triocept._cli import waiting
from triocept._cli.agent_plan import AgentPlan
from triocept._cli.forward import Forward
from triocept._cli.handler_file import HandlerFile
from triocept._cli.run import Run
from triocept._cli.waiting import Waits
from triocept._rollout.rollout import core_of_rollout


class Said(list[str]):
    """Takes the lines in place of the screen."""

    say = list.append


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONG", 0.05)
    monkeypatch.setattr(waiting, "EVERY", 0.02)


async def think(exchange: Exchange) -> None:
    await trio.sleep_forever()


async def begin(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("a")
        await trio.sleep_forever()


async def said_by(handler: Any, model: Any = think, calls: int = 1, long: float = 0.05) -> list[str]:
    """What is printed while so many calls wait, until all have been looked at five times after so many seconds."""
    said: Any = Said()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as rollout:
        looks, open_calls = 0, core_of_rollout(rollout).calls

        async def until_looked_at() -> None:  # begins anew with each look
            nonlocal looks
            looks += all(call.elapsed > long for call in open_calls.open)
            if looks <= 5:
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for _ in range(calls):
                nursery.start_soon(ask, rollout)
            while len(open_calls.open) < calls or (
                model is begin and any(call.first_event is None for call in open_calls.open)
            ):
                await trio.sleep(0.01)
            await Waits(rollout, handler, said).during(until_looked_at)
            nursery.cancel_scope.cancel()
    return list(said)


async def test_a_handler_that_waits_is_named_once_with_the_place_where_it_waits() -> None:
    (line,) = await said_by(HandlerFile(Path("mine.py"), "answer"), calls=2)
    assert re.match(r"waiting  \d+ s for the handler mine.py, which waits in think \(", line)
    assert "test_waiting.py:" in line
    assert line.endswith("; --max-seconds limits the wait, and Ctrl-C ends it")


async def test_a_model_that_is_silent_is_named_with_the_limit_of_its_silence() -> None:
    (line,) = await said_by(Forward.of("http://127.0.0.1:9/v1"))
    what = "the model at http://127\\.0\\.0\\.1:9/v1, which has sent no part of the answer yet"
    assert re.fullmatch(rf"waiting  \d+ s for {what}; the call fails after 600 s of silence", line)


async def test_each_later_line_needs_a_much_longer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "VERY_LONG", 0.2)
    lines = await said_by(HandlerFile(Path("mine.py"), "answer"), calls=3, long=0.2)
    assert len(lines) == 3


async def test_an_answer_that_has_begun_is_not_named() -> None:
    assert await said_by(HandlerFile(Path("mine.py"), "answer"), begin) == []


async def test_a_run_prints_the_line_and_still_returns_what_its_agent_returned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, printed_once, look = tmp_path / "mine.py", tmp_path / "printed", Waits._print

    def look_and_tell(self: Waits) -> None:
        look(self)
        if self._printed:
            printed_once.touch()

    monkeypatch.setattr(Waits, "_print", look_and_tell)
    file.write_text(
        f"import pathlib, trio; printed = pathlib.Path({str(printed_once)!r})\n"
        "async def answer(e):\n"
        "    while not printed.exists(): await trio.sleep(0.1)\n"
        "    await e.respond('late')\n"
    )
    run = Run(AgentPlan((sys.executable, "-c", AGENT, "7", "a")), HandlerFile(file, "answer"))
    assert await run.run() == 7
    printed = capfd.readouterr()
    assert printed.out == "said: late\n"
    line = rf"▸ waiting  \d+ s for the handler {file}, which waits in answer \({file}:3\)"
    assert len(re.findall(line, printed.err)) == 1
