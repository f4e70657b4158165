"""Agents in memory: every dialect, no socket, and a clock that nobody waits for."""

import gzip
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from triocept import (
    Exchange,
    ExchangeAbandoned,
    Limits,
    Message,
    Refusal,
    Request,
    Response,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    UpstreamError,
    serve_endpoint,
    testing,
)
from triocept.dialects import DIALECTS
from triocept.errors import Unanswered, UpstreamTruncated
from triocept.handlers import Fault
from triocept.testing import open_memory_agent
from triocept.types import PartDelta

MockClock = trio.testing.MockClock

in_every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
either_way = pytest.mark.parametrize("stream", [False, True])


async def echo(exchange: Exchange) -> None:
    await exchange.respond(exchange.request.last.text)


async def after_5_minutes(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("a")
        await trio.sleep(300)
        await stream.send("b")


@either_way
@in_every_dialect
async def test_it_asks_and_is_answered_in_its_dialect(
    dialect: str, stream: bool, autojump_clock: MockClock
) -> None:
    async with open_memory_agent(echo, dialect=dialect) as agent:
        answer = await agent.ask("hello", stream=stream)
    assert answer.text == "hello"
    (turn,) = agent.rollout.trace
    assert (turn.dialect, turn.request.stream, turn.outcome) == (dialect, stream, "answered")
    (call,) = agent.calls
    assert (call.status, call.end) == (200, "whole")
    assert call.headers["content-type"] == (agent.dialect.stream_types[0] if stream else "application/json")


@either_way
@in_every_dialect
async def test_300_seconds_of_silence_are_filled_and_take_no_time(
    dialect: str, stream: bool, autojump_clock: MockClock
) -> None:
    async with open_memory_agent(after_5_minutes, dialect=dialect, timeout=60) as agent:
        answer = await agent.ask("hello", stream=stream)
    assert answer.text == "ab"
    (call,) = agent.calls
    assert call.longest_silence == (10 if stream else 30)
    assert call.pieces[-1].at == 300
    assert len(call.pieces) >= 28


async def test_who_waits_for_less_than_the_keep_alives_hangs_up(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes, timeout=9) as agent:
        with pytest.raises(
            TimeoutError, match="no data arrived for 9 seconds, so the agent has disconnected"
        ):
            await agent.ask("hello", stream=True)
        assert trio.current_time() == 9
        await trio.testing.wait_all_tasks_blocked()
        assert [turn.outcome for turn in agent.rollout.trace] == ["abandoned"]
    assert (agent.calls[0].end, agent.calls[0].longest_silence) == ("hung up", 9)


async def test_a_cancelled_ask_hangs_up_and_cancels_its_handler(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def asleep(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_memory_agent(asleep) as agent:
        with trio.move_on_after(5) as scope:
            await agent.ask("hello")
        assert scope.cancelled_caught
        await ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        (turn,) = agent.rollout.trace
    assert turn.outcome == "abandoned"


async def test_hang_up_ends_whatever_waits(autojump_clock: MockClock) -> None:
    async with (
        open_memory_agent(after_5_minutes, on_hangup="finish") as agent,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(ExchangeAbandoned, match="the agent has disconnected"):
                await agent.ask("hello", stream=True)

        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.sleep(20)
        agent.hang_up()
        await trio.sleep(300)
        assert [turn.outcome for turn in agent.rollout.trace] == ["answered", "answered"]
    assert {call.end for call in agent.calls} == {"hung up"}


@in_every_dialect
async def test_a_refusal_is_an_error_with_its_status(dialect: str, autojump_clock: MockClock) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(429, "not so fast", retry_after=3)

    async with open_memory_agent(refuse, dialect=dialect) as agent:
        with pytest.raises(UpstreamError, match="not so fast") as raised:
            await agent.ask("hello")
    assert (raised.value.status, raised.value.headers["retry-after"]) == (429, "3")


@in_every_dialect
async def test_it_tries_again_what_may_help_as_often_as_it_is_told(
    dialect: str, autojump_clock: MockClock
) -> None:
    script = ScriptedModel([Refusal(429, "wait", retry_after=3), Refusal(500, "ill"), "well"])
    async with open_memory_agent(script, dialect=dialect, retries=2) as agent:
        assert (await agent.ask("hello")).text == "well"
    assert trio.current_time() == 4  # 3, then 1: twice the first pause
    assert [turn.attempt for turn in agent.rollout.trace] == [1, 2, 3]
    assert [call.status for call in agent.calls] == [429, 500, 200]


async def test_it_does_not_try_again_what_says_that_it_shall_not(autojump_clock: MockClock) -> None:
    async def refuse(exchange: Exchange) -> None:
        raise Refusal(500, "no", should_retry=False)

    async with open_memory_agent(refuse, retries=5) as agent:
        with pytest.raises(UpstreamError):
            await agent.ask("hello")
    assert len(agent.calls) == 1


@in_every_dialect
async def test_a_stream_that_fails_in_the_middle_is_an_error_and_never_an_answer(
    dialect: str, autojump_clock: MockClock
) -> None:
    async def half(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(503, "gone")

    async with open_memory_agent(half, dialect=dialect, retries=2) as agent:
        with pytest.raises(UpstreamError):
            await agent.ask("hello", stream=True)
    (call,) = agent.calls
    assert call.status == 200
    assert call.end in ("broken", "hung up")
    assert b"half" in call.body
    assert [turn.outcome for turn in agent.rollout.trace] == ["refused"]


async def test_events_are_read_one_by_one_and_leaving_hangs_up(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes) as agent:
        async with agent.open_stream("hello") as events:
            async for event in events:
                if isinstance(event, PartDelta):
                    assert (event.text, trio.current_time()) == ("a", 0)
                    break
        await trio.testing.wait_all_tasks_blocked()
        (turn,) = agent.rollout.trace
        assert turn.outcome == "abandoned"
        async with agent.open_stream("again") as events:
            assert "".join([each.text async for each in events if isinstance(each, PartDelta)]) == "ab"
    assert agent.calls[1].end == "whole"


async def test_a_stream_that_is_refused_is_never_opened(autojump_clock: MockClock) -> None:
    async def refuse(exchange: Exchange) -> None:
        raise Refusal(404, "no such model")

    async with open_memory_agent(refuse) as agent:
        with pytest.raises(UpstreamError, match="no such model"):
            async with agent.open_stream("hello"):
                raise AssertionError("it is open")


async def test_what_a_handler_raises_leaves_bare(autojump_clock: MockClock) -> None:
    async def broken(exchange: Exchange) -> None:
        raise KeyError("what")

    with pytest.raises(KeyError, match="what"):
        async with open_memory_agent(broken) as agent:
            with trio.CancelScope(shield=True), pytest.raises(UpstreamError) as raised:
                await agent.ask("hello")
            await trio.sleep_forever()
    assert raised.value.status == 500


async def test_what_the_body_raises_leaves_bare(autojump_clock: MockClock) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_memory_agent(echo) as agent:
            await agent.ask("hello")
            raise LookupError("mine")


async def test_the_body_answers_where_there_is_no_handler(autojump_clock: MockClock) -> None:
    async with open_memory_agent() as agent, trio.open_nursery() as nursery:
        answers: list[Response] = []

        async def ask() -> None:
            answers.append(await agent.ask("hello"))

        nursery.start_soon(ask)
        async for exchange in agent.rollout:
            await exchange.respond("from a loop")
            break
    assert [answer.text for answer in answers] == ["from a loop"]


@in_every_dialect
async def test_messages_requests_and_documents_can_be_asked(dialect: str, autojump_clock: MockClock) -> None:
    said = Message("user", (Text("hello"),))
    request = Request(dialect="openai_chat", model="m-1", messages=(said,))
    async with open_memory_agent(echo, dialect=dialect) as agent:
        assert (await agent.ask([said])).text == "hello"
        assert (await agent.ask(request)).text == "hello"
        document = agent.calls[-1].document
        assert isinstance(document, dict)
        assert (await agent.ask(document)).text == "hello"
    models = [turn.request.model for turn in agent.rollout.trace]
    assert models == ["triocept", "m-1", "m-1"]
    assert agent.calls[2].document == document


async def test_tools_go_round(autojump_clock: MockClock) -> None:
    tool = Tool(name="add", parameters={"type": "object"})

    async def calls(exchange: Exchange) -> None:
        await exchange.respond(ToolCall.of("add", a=1))

    request = Request(dialect="gemini", model="m", messages=(Message("user", (Text("1?"),)),), tools=(tool,))
    async with open_memory_agent(calls, dialect="anthropic_messages") as agent:
        (call,) = (await agent.ask(request, stream=True)).tool_calls
    assert (call.name, msgspec.json.decode(call.arguments)) == ("add", {"a": 1})


async def test_a_document_that_is_wrong_is_refused_with_the_place(autojump_clock: MockClock) -> None:
    async with open_memory_agent(echo) as agent:
        with pytest.raises(UpstreamError, match=r"messages\[0\]") as raised:
            await agent.ask({"model": "m", "messages": [3]})
    assert raised.value.status == 400
    assert len(agent.rollout.trace) == 0


async def test_after_its_block_it_asks_nothing() -> None:
    async with open_memory_agent(echo) as agent:
        pass
    with pytest.raises(
        RuntimeError, match="this agent has ended: use it within the block of its `open_memory_agent`"
    ):
        await agent.ask("hello")


async def test_a_very_long_conversation_is_read_at_once(autojump_clock: MockClock) -> None:
    """In a thread the clock would jump over the agent's patience."""
    said = tuple(Message("user", (Text("x" * 60),)) for _ in range(12_000))
    async with open_memory_agent(echo, timeout=60) as agent:
        await agent.ask(Request(dialect="openai_chat", model="m", messages=said))
    assert trio.current_time() == 0


@in_every_dialect
async def test_the_time_of_a_rollout_ends(dialect: str, autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes, dialect=dialect, limits=Limits(seconds=100)) as agent:
        with pytest.raises(UpstreamError, match="the limit of 100 seconds is reached"):
            await agent.ask("hello", stream=True)
    assert trio.current_time() == 100


async def test_another_key_opens_nothing(autojump_clock: MockClock) -> None:
    async with open_memory_agent(echo) as agent:
        with pytest.raises(UpstreamError, match="is not valid for rollout") as raised:
            await agent.ask("hello", headers={"Authorization": "Bearer sk-wrong"})
    assert raised.value.status == 401


@pytest.mark.parametrize("asked", [3, None, [3]])
async def test_what_cannot_be_asked_is_an_error_of_the_call(asked: Any, autojump_clock: MockClock) -> None:
    async with open_memory_agent(echo) as agent:
        with pytest.raises(TypeError):
            await agent.ask(asked)
    assert agent.calls == []


async def test_arguments_are_looked_at(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match=r"unknown dialect str: 'openai'; the dialects are openai_chat, "):
        async with open_memory_agent(echo, dialect="openai"):
            pass
    with pytest.raises(TypeError, match="a handler must be"):
        async with open_memory_agent("hello"):  # type: ignore[arg-type]
            pass
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        async with open_memory_agent(echo, timeout=0):
            pass
    with pytest.raises(TypeError, match="modle"):
        async with open_memory_agent(echo, modle="m"):  # type: ignore[call-arg]
            pass


async def test_several_agents_of_several_dialects_ask_one_rollout(autojump_clock: MockClock) -> None:
    async with (
        testing.open_rollout(echo, model="m-7") as rollout,
        open_memory_agent(rollout, dialect="gemini") as one,
        open_memory_agent(rollout, dialect="openai_responses") as other,
    ):
        assert (await one.ask("a")).text + (await other.ask("b")).text == "ab"
    assert [turn.dialect for turn in rollout.trace] == ["gemini", "openai_responses"]
    assert {turn.request.model for turn in rollout.trace} == {"m-7"}
    with pytest.raises(TypeError, match="model are options for opening a rollout"):
        async with open_memory_agent(rollout, model="m"):
            pass


async def test_a_rollout_in_memory_says_that_it_has_no_address(autojump_clock: MockClock) -> None:
    async with testing.open_rollout(echo) as rollout:
        for needs_one in (
            lambda: rollout.base_url("openai_chat"),
            lambda: rollout.client("openai_chat"),
            rollout.environ,
        ):
            with pytest.raises(RuntimeError, match="is in memory, and has no address"):
                needs_one()
        with pytest.raises(RuntimeError, match="is in memory, and has no address"):
            await rollout.run_agent(["true"])
        assert (await rollout.ask("hello")).text == "hello"


# Faults, as they are on the wire


@either_way
@pytest.mark.parametrize(("raw", "status", "words"), [
    ({"status": 502, "body": b"<html>bad gateway</html>"}, 502, "bad gateway"),
    ({"status": 200, "body": b""}, 502, None),
    ({"status": 200, "body": b'{"a', "headers": {"content-type": "application/json"}}, 502, "cannot be read"),
    ({"status": None, "end": "reset"}, 502, "server closed the connection before it sent an answer"),
    ({"status": 200, "headers": {"content-length": "9", "content-type": "application/json"}, "body": b"{}",
      "end": "close"}, 502, "broken off"),
])  # fmt: skip
async def test_raw_answers_are_what_clients_make_of_them(
    raw: dict[str, Any], status: int, words: str | None, stream: bool, autojump_clock: MockClock
) -> None:
    async def handler(exchange: Exchange) -> None:
        how = {"headers": {"content-type": "text/html"}, "body": b"", **raw}
        if how["status"] is None:
            del how["headers"]
        await exchange.respond_raw(how.pop("status"), how.pop("headers", {}), how.pop("body"), **how)

    async with open_memory_agent(handler) as agent:
        with pytest.raises(UpstreamError, match=words) as raised:
            await agent.ask("hello", stream=stream)
    assert raised.value.status == status


@either_way
async def test_a_coding_is_undone_and_none_that_is_there_is_an_error(
    stream: bool, autojump_clock: MockClock
) -> None:
    said = (
        b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    if not stream:
        said = b'{"id":"a","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'

    async def packed(exchange: Exchange) -> None:
        kind = "text/event-stream" if stream else "application/json"
        headers = {"content-type": kind, "content-encoding": "gzip"}
        await exchange.respond_raw(200, headers, gzip.compress(said))

    async with open_memory_agent(packed) as agent:
        assert (await agent.ask("hello", stream=stream)).text == "hi"
    async with open_memory_agent(Fault.not_gzip()) as agent:
        with pytest.raises(UpstreamError, match="the answer cannot be decoded as 'gzip'"):
            await agent.ask("hello", stream=stream)


async def test_a_stall_lasts_until_the_agent_goes(autojump_clock: MockClock) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.respond_raw(200, {"content-type": "text/event-stream"}, [b": ", 5, b"hi"], end="stall")

    async with open_memory_agent(stall, timeout=600) as agent:
        with pytest.raises(TimeoutError):
            await agent.ask("hello", stream=True)
    assert trio.current_time() == 605
    assert agent.calls[0].body == b": hi"


async def test_a_stream_that_is_cut_is_truncated(autojump_clock: MockClock) -> None:
    async def cut(exchange: Exchange) -> None:
        chunk = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
        await exchange.respond_raw(200, {"content-type": "text/event-stream"}, chunk, end="close")

    async with open_memory_agent(cut) as agent:
        with pytest.raises(UpstreamTruncated):
            await agent.ask("hello", stream=True)


# A served rollout, and the real clock


async def test_a_rollout_of_an_endpoint_can_be_asked_too() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with open_memory_agent(rollout, dialect="ollama") as agent:
            assert (await agent.ask("hello", stream=True)).text == "hello"


async def test_a_handler_that_returns_without_an_answer_is_told_so(autojump_clock: MockClock) -> None:
    async def nothing(exchange: Exchange) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(Unanswered):
        async with open_memory_agent(nothing) as agent:
            with pytest.raises(UpstreamError):
                await agent.ask("hello")
            await trio.sleep_forever()


async def test_a_rollout_of_another_thread_is_refused_in_words() -> None:
    with testing.fake_model(environ=False) as model:
        with pytest.raises(TypeError, match="a SyncRollout belongs to another thread"):
            async with open_memory_agent(model):  # type: ignore[arg-type]
                pass
