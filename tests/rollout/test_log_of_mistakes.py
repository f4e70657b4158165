"""Mistakes that no error shows are lines of the endpoint's log: unknown tools, unused replies, a blocked event loop."""

import logging
import threading
import time

import pytest
import trio

from tests.asking import ask
from tests.unserved import opened
from triocept import Exchange, Limits, ScriptedModel, ToolCall, serve_endpoint
from triocept._util import loop_watch
from triocept.handlers import chaos

TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}


def lines(caplog: pytest.LogCaptureFixture, logger: str = "triocept.rollout") -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == logger and record.levelno == logging.WARNING
    ]


async def test_a_call_of_an_unknown_tool_is_logged_once_with_the_tools_of_its_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = ScriptedModel([ToolCall("Bash", "{}"), ToolCall("Bash", "{}"), ToolCall("bash", "{}"), "done"])
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
            for _ in range(4):
                assert (await ask(rollout, tools=[TOOL])).status_code == 200
    assert lines(caplog) == [
        f"rollout {rollout.id}: turn 0 calls 'Bash', which the agent's request does not offer; "
        "the request offers 'bash'"
    ]


async def test_of_an_unknown_tool_and_of_many_offered_ones_the_line_is_short_and_printable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = ScriptedModel([ToolCall("x\n" * 500, "{}"), ToolCall("y", "{}")])
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "parameters": {"type": "object"}}}
        for n in range(12)
    ]
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
            await ask(rollout, tools=tools)
            await ask(rollout)
    first, second = lines(caplog)
    assert first.isprintable()
    assert len(first) < 500
    assert first.endswith("'tool_8', 'tool_9', and 2 more")
    assert second.endswith(
        "turn 1 calls 'y', which the agent's request does not offer; the request offers no tools"
    )


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
async def test_replies_that_no_call_took_are_logged_at_the_end(
    wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script = ScriptedModel(["first", "second", "third"])
    async with opened(chaos(script, seed=1) if wrapped else script) as rollout:
        await rollout.ask("x")
    (line,) = lines(caplog)
    assert line.startswith(
        f"rollout {rollout.id} has ended, and 2 of 3 replies of its script were not used: "
    )
    assert "'second'" in line
    assert "'third'" in line


async def test_a_script_that_was_used_up_or_stopped_or_has_failed_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(ScriptedModel(["first"])) as rollout:
        await rollout.ask("x")
    async with opened(ScriptedModel(["first", "second"])) as rollout:
        await rollout.ask("x")
        await rollout.stop("enough")
    async with opened(ScriptedModel(["first", "second"]), Limits(turns=0)):
        pass
    with pytest.raises(KeyError):
        async with opened(ScriptedModel(["first", "second"])):
            raise KeyError
    assert len(lines(caplog)) == 1  # of the limit that was never reached


async def test_a_script_that_another_open_rollout_has_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    script = ScriptedModel(["first", "second"])
    async with opened(script) as parent:
        async with parent.open_child(script) as child:
            await child.ask("x")
        assert lines(caplog) == []
        await parent.ask("x")
    assert lines(caplog) == []


def sleeps() -> None:
    time.sleep(1.5)


async def blocking(exchange: Exchange) -> None:
    sleeps()
    await exchange.respond("hello")


async def test_a_function_that_blocks_the_event_loop_is_logged_once_with_its_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_watch, "LONG", 0.5)
    monkeypatch.setattr(loop_watch, "EVERY", 0.1)
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, serve_endpoint() as second:
            async with endpoint.open_rollout(blocking) as rollout, second.open_rollout(blocking) as other:
                for each in (rollout, rollout, other):
                    await ask(each)
    (line,) = lines(caplog, "triocept.endpoint")
    where = f"sleeps ({__file__}:{sleeps.__code__.co_firstlineno + 1})"
    assert line.startswith(
        f"{where} has blocked the event loop for 0.5 s, and no agent gets an answer meanwhile: "
    )
    assert "triocept-watch" not in {thread.name for thread in threading.enumerate()}


async def test_a_handler_that_awaits_and_a_caller_of_trio_run_are_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(1)
        await exchange.respond("hello")

    monkeypatch.setattr(loop_watch, "LONG", 0.5)
    monkeypatch.setattr(loop_watch, "EVERY", 0.1)
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(slow) as rollout:
            await ask(rollout)
    assert lines(caplog, "triocept.endpoint") == []


def test_the_search_for_a_blocking_function_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search runs in a thread of its own, while the loop's thread may be in the middle of an import."""

    def no_import(name: str, *args: object) -> object:
        raise AssertionError(f"imports {name}")

    thread = threading.current_thread()
    with monkeypatch.context() as patched:
        patched.setattr("builtins.__import__", no_import)
        found = loop_watch.place_of(thread)
    assert found.startswith("test_the_search_for_a_blocking_function_imports_nothing ")
