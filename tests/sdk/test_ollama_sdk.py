"""The official Python client of Ollama against an endpoint: whole, streamed, with tools, thoughts and errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ollama
import pytest
import trio

from triocept import Exchange, Rollout, ToolCall, serve_endpoint
from triocept.types import Reasoning

HI = {"role": "user", "content": "what is here?"}


def list_files(path: str) -> str:
    """List the files of a folder.

    Args:
        path: the folder.
    """
    return f"{path}: a, b"


async def look(exchange: Exchange) -> None:
    """Calls the tool once, and says what it gave."""
    results = exchange.request.messages[-1].tool_results
    async with exchange.open_stream() as stream:
        await stream.send(Reasoning("hm"))
        if not results:
            await stream.send(ToolCall.of("list_files", path="/"))
            return
        for text in ("it is ", results[0].text):
            await stream.send(text)


@asynccontextmanager
async def opened(handler: Any = look) -> AsyncIterator[tuple[Rollout, ollama.AsyncClient]]:
    with trio.fail_after(60):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            headers = {"authorization": f"Bearer {rollout.api_key}"}
            async with ollama.AsyncClient(rollout.base_url("ollama"), headers=headers) as client:
                yield rollout, client


async def test_a_tool_is_called_and_its_result_told_whole() -> None:
    async with opened() as (rollout, client):
        asked = await client.chat("m", [HI], tools=[list_files], think=True)
        (call,) = asked.message.tool_calls or ()
        result = {"role": "tool", "content": list_files(**call.function.arguments), "tool_name": "list_files"}
        told = await client.chat("m", [HI, asked.message, result], tools=[list_files])
    assert (asked.message.thinking, call.function.name, dict(call.function.arguments)) == (
        "hm",
        "list_files",
        {"path": "/"},
    )
    assert (told.message.content, told.done, told.done_reason) == ("it is /: a, b", True, "stop")
    assert (told.eval_count or 0) > 0
    first, second = rollout.trace
    assert first.request.tools[0].name == "list_files"
    assert second.request.messages[-1].tool_results[0].id == second.request.messages[-2].tool_calls[0].id


async def test_a_tool_is_called_and_its_result_told_in_streams() -> None:
    async with opened() as (_, client):
        asked = [part async for part in await client.chat("m", [HI], tools=[list_files], stream=True)]
        calls = [call for part in asked for call in part.message.tool_calls or ()]
        said = {"role": "assistant", "content": "", "tool_calls": [call.model_dump() for call in calls]}
        result = {"role": "tool", "content": "a, b", "tool_name": "list_files"}
        told = [part async for part in await client.chat("m", [HI, said, result], stream=True)]
    assert [call.function.name for call in calls] == ["list_files"]
    assert "".join(part.message.content or "" for part in told) == "it is a, b"
    assert len([part for part in told if part.message.content]) == 2
    assert [part.done for part in told][-1]


async def test_the_blocking_client_is_answered_in_a_thread() -> None:
    async with opened() as (rollout, _):
        url, headers = rollout.base_url("ollama"), {"authorization": f"Bearer {rollout.api_key}"}

        def ask() -> Any:
            with ollama.Client(url, headers=headers) as client:
                return (
                    client.chat("m", [HI, {"role": "tool", "content": "x"}]),
                    client.list(),
                    client.show("m"),
                )

        told, models, shown = await trio.to_thread.run_sync(ask)
    assert told.message.content == "it is x"
    assert [model.model for model in models.models] == [rollout.model]
    assert "tools" in (shown.capabilities or ())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_has_its_status_and_its_words(stream: bool) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(503, "no model here")

    async with opened(refuse) as (_, client):
        with pytest.raises(ollama.ResponseError, match="no model here") as raised:
            answer = await client.chat("m", [HI], stream=stream)
            if stream:
                _ = [part async for part in answer]
    assert raised.value.status_code == 503


async def test_embeddings_in_both_of_its_ways() -> None:
    async with opened() as (rollout, client):
        one = await client.embed("nomic-embed-text", "hello")
        several = await client.embed("nomic-embed-text", ["hello", "there"], dimensions=16)
        old = await client.embeddings("nomic-embed-text", "hello")
        with pytest.raises(ollama.ResponseError, match="this endpoint has no path /api/generate") as raised:
            await client.generate("m", "hello")
    assert [len(vector) for vector in several.embeddings] == [16, 16]
    assert list(one.embeddings[0]) == list(old.embedding)
    assert raised.value.status_code == 501
    assert [call.name for call in rollout.trace.services] == ["nomic-embed-text"] * 3
