"""A user's program, as type checkers see it: `nox -s types` and `nox -s package` check it, nothing runs it.

What is not assigned here is an argument that a checker has to take, or a name that has to be there.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack, assert_type

import anthropic
import openai
import trio

import triocept
from triocept.traces import (
    Conversation,
    DirectoryRecorder,
    Recorder,
    TokenBranch,
    branches,
    drift,
    lease_traces,
    steps,
)
from triocept.types import EndpointOptions, Event, PartDelta, RolloutOptions, assemble


async def answer(exchange: triocept.Exchange) -> None:
    assert_type(exchange.request, triocept.Request)
    assert_type(exchange.dialect, str)
    assert_type(exchange.attempt, int)
    assert_type(exchange.rollout, triocept.Rollout)
    if exchange.attempt > 1:
        await exchange.refuse(429, "later", retry_after=2)
        return
    async with exchange.open_stream() as stream:
        assert_type(stream, triocept.ResponseStream)
        await stream.send("hello")
        await stream.send(triocept.types.Reasoning("because"))
        await stream.send(PartDelta(0, "!"))


async def asked(rollout: triocept.Rollout) -> None:
    hello = triocept.Message("user", "hello")
    parts = triocept.Message("user", (triocept.Text("hello"),), name="Ann")
    assert_type(parts.content, tuple[triocept.types.Part, ...])
    assert_type(await rollout.ask([hello, parts]), triocept.Response)
    triocept.Message("usr", "hello")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    triocept.Message("user", 5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def said(events: list[Event]) -> triocept.Response:
    return assemble(events)


async def clients(rollout: triocept.Rollout) -> None:
    assert_type(rollout.client("openai_chat"), openai.AsyncOpenAI)
    assert_type(rollout.client("openai_responses", max_retries=0), openai.AsyncOpenAI)
    assert_type(rollout.client("openai_completions", sync=True), openai.OpenAI)
    assert_type(rollout.client("anthropic_messages"), anthropic.AsyncAnthropic)
    assert_type(rollout.client("anthropic_messages", sync=True), anthropic.Anthropic)
    assert_type(rollout.config("a dialect from outside"), triocept.types.ClientConfig)
    assert_type(rollout.environ(reach="public"), dict[str, str])


async def agents(rollout: triocept.Rollout) -> None:
    result = await rollout.run_agent(["claude"], env={"A": None}, cwd="/", input="x", output="echo")
    assert_type(result, triocept.AgentResult)
    async with rollout.open_agent(["claude"], terminate_grace=1.0) as agent:
        assert_type(agent, triocept.Agent)
        async for exchange in agent:
            assert_type(exchange, triocept.Exchange)
    await rollout.run_agent(["claude"], outptu="echo")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


async def children(rollout: triocept.Rollout) -> None:
    async with rollout.open_child(answer, model="small", limits=triocept.Limits(turns=3)) as child:
        assert_type(child, triocept.Rollout)
    conversations: dict[str, Conversation] = rollout.trace.conversations
    prices: Mapping[str, triocept.Price] = {"*": triocept.Price(input=1, output=2)}
    print(conversations, prices)


async def own_options(
    endpoint: triocept.Endpoint, given: Recorder, **options: Unpack[RolloutOptions]
) -> None:
    """A function around `open_rollout` has its keywords."""
    async with endpoint.open_rollout(answer, **options) as rollout:
        assert_type(rollout, triocept.Rollout)
    async with endpoint.open_rollout(recorder=given, on_hangup="finish", tools=[len]):
        pass
    async with endpoint.open_rollout(on_hangup="no"):  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        pass


async def own_endpoint(**options: Unpack[EndpointOptions]) -> None:
    async with trio.open_nursery() as nursery:
        endpoint: triocept.Endpoint = await nursery.start(partial(triocept.run_endpoint, **options))
        assert_type(endpoint.port, int)
    async with triocept.serve_endpoint(tls=("cert.pem", "key.pem")) as other:
        assert_type(other, triocept.Endpoint)


async def pool() -> None:
    async with triocept.serve_pool(partial(triocept.serve_endpoint, grace=5), per_endpoint=2) as running:
        assert_type(running, triocept.Pool)
        async with running.open_rollout(answer, id="a", concurrency=2) as rollout:
            assert_type(rollout, triocept.Rollout)
        async with running.open_rollout(answer, idd="a"):  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
            pass


async def upstream(exchange: triocept.Exchange) -> None:
    async with triocept.open_upstream("http://127.0.0.1:1/v1", dialect="openai_chat") as real:
        assert_type(real, triocept.Upstream)
        handler: triocept.Handler = real
        await handler(exchange)


def scripted() -> triocept.Handler:
    return triocept.ScriptedModel([triocept.ToolCall("c", "bash", "{}"), "done", 0.5, lambda request: "x"])


def read(path: str) -> list[Any]:
    return [turn.response for trace in triocept.read_traces(path) for turn in trace]


async def train(directory: str) -> None:
    recorder: Recorder = DirectoryRecorder(directory, fsync=True)
    async with triocept.serve_endpoint(recorder=recorder), lease_traces(directory, wait=False) as lease:
        async for trace in lease:
            assert_type(trace, triocept.Trace)
            assert_type(branches(trace, accept=["superseded"]), tuple[TokenBranch, ...])
            assert_type([step.completion_ids for step in steps(trace)], list[array[int]])
            assert_type(drift(trace).delivered_fraction, float | None)
            lease.acknowledge(trace)


async def rewriting(exchange: triocept.Exchange, real: triocept.Upstream) -> None:
    response = await real.fetch(exchange.request, exchange=exchange)
    assert_type(response, triocept.Response)
    async with real.open_response(exchange.request, exchange=exchange) as events:
        assert_type([event async for event in events], list[Event])
