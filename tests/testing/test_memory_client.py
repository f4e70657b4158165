"""Official clients in memory: their retries and their patience go by the mock clock."""

from typing import Any

import anthropic
import openai
import pytest
import trio
import trio.testing

from triocept import Exchange, Refusal, ScriptedModel
from triocept.testing import open_memory_agent

pytestmark = [
    pytest.mark.filterwarnings(
        r"ignore:Async generator '(openai|anthropic|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
    ),
    pytest.mark.skipif(openai.__version__ < "3", reason="it speaks through httpx"),
]
MockClock = trio.testing.MockClock
ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def after_5_minutes(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("a")
        await trio.sleep(300)
        await stream.send("b")


async def test_openais_client_streams_through_a_silence(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes) as agent, agent.client(timeout=60) as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        whole = await client.chat.completions.create(**ASKED)
    assert "".join(said) == whole.choices[0].message.content == "ab"
    assert trio.current_time() == 600
    assert [turn.outcome for turn in agent.rollout.trace] == ["answered"] * 2


async def test_its_patience_is_that_of_its_time_limit(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes) as agent:
        async with agent.client(timeout=25, max_retries=0) as client:
            with pytest.raises(openai.APITimeoutError):
                await client.chat.completions.create(**ASKED)
        await trio.testing.wait_all_tasks_blocked()
        assert [turn.outcome for turn in agent.rollout.trace] == ["abandoned"]
    assert trio.current_time() == 25


async def test_its_retries_wait_by_the_clock(autojump_clock: MockClock) -> None:
    script = ScriptedModel([Refusal(429, "wait", retry_after=50), Refusal(529, "ill", retry_after=7), "well"])
    async with open_memory_agent(script, dialect="anthropic_messages") as agent:
        async with agent.client(max_retries=2) as client:
            message = await client.messages.create(**ASKED, max_tokens=9)
    assert message.content[0].text == "well"
    assert trio.current_time() == 57
    assert [turn.attempt for turn in agent.rollout.trace] == [1, 2, 3]


async def test_what_breaks_is_an_error_of_the_sdk(autojump_clock: MockClock) -> None:
    async def broken(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(503, "gone")

    async def reset(exchange: Exchange) -> None:
        await exchange.respond_raw(None, {}, b"", end="reset")

    async with open_memory_agent(broken) as agent, agent.client(max_retries=0) as client:
        with pytest.raises(openai.APIError, match="gone"):
            async for _ in await client.chat.completions.create(**ASKED, stream=True):
                pass
    async with open_memory_agent(reset) as agent, agent.client(max_retries=1) as client:
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(**ASKED)
    assert len(agent.calls) == 2


async def test_leaving_a_stream_hangs_up(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes) as agent, agent.client() as client:
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            async for _ in stream:
                break
        await trio.testing.wait_all_tasks_blocked()
        assert [turn.outcome for turn in agent.rollout.trace] == ["abandoned"]


async def test_the_other_routes_of_an_endpoint_answer_too(autojump_clock: MockClock) -> None:
    async with open_memory_agent(after_5_minutes) as agent, agent.client(max_retries=0, timeout=9) as client:
        long = ["text " * 1_000 for _ in range(200)]  # an endpoint makes so many vectors in a thread
        made = await client.embeddings.create(model="m", input=long, dimensions=2)
        assert len(made.data) == len(long)
        assert [model.id async for model in client.models.list()] == ["triocept"]
    async with open_memory_agent(after_5_minutes, dialect="anthropic_messages") as agent:
        async with agent.client(max_retries=0) as client:
            assert (await client.messages.count_tokens(**ASKED)).input_tokens > 0
            with pytest.raises(anthropic.NotFoundError):
                await client.get("/nowhere", cast_to=dict[str, object])
    assert trio.current_time() == 0


async def test_of_a_dialect_without_a_client_there_is_none() -> None:
    async with open_memory_agent(after_5_minutes, dialect="gemini") as agent:
        with pytest.raises(ValueError, match="no client for the dialect 'gemini'"):
            agent.client()
