"""The google-genai package in every mode it has, in a thread: its sync client, and its `aio` one, which needs asyncio.

A scenario is written once, in the words of `aio`, and holds of both.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pydantic
import pytest
import trio
from google import genai
from google.genai import errors, types

from triocept import (
    Exchange,
    Refusal,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    ToolCall,
    Usage,
    serve_endpoint,
)
from triocept.handlers import Replay
from triocept.types import Media, Reasoning

pytestmark = pytest.mark.parametrize("kind", ["sync", "aio"])

USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
BOTH = Response.of("I look.", ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome"))
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            description="The weather.",
            parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
        )
    ]
)


class Blocking:
    """Something of the sync client in the words of `aio`: what is awaited is there already."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        return (lambda *args, **how: Blocking(value(*args, **how))) if callable(value) else Blocking(value)

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self if hasattr(self._thing, "__next__") else self._thing

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._thing:
            yield item


Scenario = Callable[[Any], Awaitable[None]]


async def play(rollout: Rollout, kind: str, scenario: Scenario, **options: Any) -> None:
    """Run a scenario with the SDK's client, pointed at this rollout, in a thread."""
    config = rollout.config("gemini")
    how = types.HttpOptions(base_url=config.base_url, **options)

    async def with_aio() -> None:
        async with genai.Client(api_key=config.api_key, http_options=how).aio as client:
            await scenario(client)

    async def with_sync() -> None:
        with genai.Client(api_key=config.api_key, http_options=how) as client:
            await scenario(Blocking(client))

    await trio.to_thread.run_sync(asyncio.run, with_aio() if kind == "aio" else with_sync())


async def test_content_whole_and_streamed_with_thoughts_and_an_image(kind: str) -> None:
    script = ScriptedModel([Response((Reasoning("hm"), Text("hello")), usage=USAGE)] * 2)
    image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    config = types.GenerateContentConfig(
        system_instruction="be brief",
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=512),
        temperature=0.5,
        max_output_tokens=99,
        stop_sequences=["END"],
    )

    async def scenario(client: Any) -> None:
        ask: Any = {"model": "m", "contents": ["what is it?", image], "config": config}
        whole = await client.models.generate_content(**ask)
        chunks = [chunk async for chunk in await client.models.generate_content_stream(**ask)]
        assert whole.text == "hello"
        assert "".join(chunk.text or "" for chunk in chunks) == "hello"
        for answers in ([whole], chunks):
            parts = [part for each in answers for part in each.candidates[0].content.parts or []]
            assert "".join(part.text for part in parts if part.thought) == "hm"
            assert answers[-1].candidates[0].finish_reason == types.FinishReason.STOP
            usage = answers[-1].usage_metadata
            assert (usage.prompt_token_count, usage.cached_content_token_count) == (10, 4)
            assert (usage.candidates_token_count, usage.thoughts_token_count) == (3, 2)
            assert usage.total_token_count == 15

    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario)
    for turn in rollout.trace:
        request = turn.request
        assert (request.model, request.system, request.reasoning.budget_tokens) == ("m", "be brief", 512)
        assert (request.sampling.temperature, request.sampling.stop) == (0.5, ("END",))
        assert request.sampling.max_output_tokens == 99
        (media,) = [part for part in request.messages[-1].content if isinstance(part, Media)]
        assert (media.kind, media.media_type, media.data) == ("image", "image/png", PIXEL)
    assert [turn.request.stream for turn in rollout.trace] == [False, True]


async def test_a_chat_keeps_its_history_whole_and_streamed(kind: str) -> None:
    async def answer(exchange: Exchange) -> None:
        match exchange.request.last.text:
            case "1":
                await exchange.respond(Response.of(Reasoning("hm"), "one"))
            case "2":
                async with exchange.open_stream() as stream:
                    await stream.send("tw")
                    await stream.send("o")
            case _:
                await exchange.respond("three")

    async def scenario(client: Any) -> None:
        chat = client.chats.create(model="m")
        assert (await chat.send_message("1")).text == "one"
        stream = await chat.send_message_stream("2") if kind == "aio" else chat.send_message_stream("2")
        assert "".join([chunk.text or "" async for chunk in stream]) == "two"
        assert (await chat.send_message("3")).text == "three"

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        await play(rollout, kind, scenario)
    texts = [message.text for message in rollout.trace[-1].request.messages if message.text]
    assert texts == ["1", "one", "2", "tw", "o", "3"]
    assert len(rollout.trace.threads) == 1
    replay = Replay(rollout.trace)  # which gives "two" whole
    async with serve_endpoint() as endpoint, endpoint.open_rollout(replay) as again:
        await play(again, kind, scenario)
    assert [turn.response.text for turn in again.trace] == ["one", "two", "three"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_of_parallel_calls_by_hand(kind: str, streamed: bool) -> None:
    script = ScriptedModel([BOTH, lambda request: " and ".join(r.text for r in request.tool_results)])
    config = types.GenerateContentConfig(
        tools=[WEATHER],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["weather"]
            )
        ),
    )

    async def scenario(client: Any) -> None:
        async def parts_of(contents: Any) -> list[Any]:
            ask: Any = {"model": "m", "contents": contents, "config": config}
            if not streamed:
                return list((await client.models.generate_content(**ask)).candidates[0].content.parts)
            chunks = [chunk async for chunk in await client.models.generate_content_stream(**ask)]
            return [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]

        asked = types.UserContent("weather?")
        said = await parts_of([asked])
        calls = [part.function_call for part in said if part.function_call]
        assert [(call.name, call.args["city"]) for call in calls] == [
            ("weather", "Oslo"),
            ("weather", "Rome"),
        ]
        results = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id, name=call.name, response={"output": f"sun in {call.args['city']}"}
                )
            )
            for call in calls
        ]
        end = await parts_of([asked, types.ModelContent(said), types.UserContent(results)])
        assert "".join(part.text or "" for part in end) == "sun in Oslo and sun in Rome"

    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario)
    choice = rollout.trace[0].request.tool_choice
    assert (choice.mode, choice.name) == ("tool", "weather")
    assert len(rollout.trace.threads) == 1


async def test_functions_are_called_by_the_sdk_itself(kind: str) -> None:
    script = ScriptedModel([BOTH, lambda request: " and ".join(r.text for r in request.tool_results)] * 2)

    def weather(city: str) -> str:
        """The weather."""
        return f"sun in {city}"

    async def scenario(client: Any) -> None:
        config = types.GenerateContentConfig(tools=[weather])
        end = await client.models.generate_content(model="m", contents="weather?", config=config)
        assert "sun in Oslo" in end.text
        assert "sun in Rome" in end.text
        assert len(end.automatic_function_calling_history) == 3
        stream = await client.models.generate_content_stream(model="m", contents="again?", config=config)
        assert "sun in Rome" in "".join([chunk.text or "" async for chunk in stream])

    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario)
    assert rollout.trace[0].request.tools[0].description == "The weather."
    assert len(rollout.trace.threads) == 2


class Town(pydantic.BaseModel):
    city: str
    people: int


async def test_json_by_a_schema_is_parsed(kind: str) -> None:
    async def scenario(client: Any) -> None:
        for schema in ({"response_schema": Town}, {"response_json_schema": Town.model_json_schema()}):
            config = types.GenerateContentConfig(response_mime_type="application/json", **schema)
            answer = await client.models.generate_content(model="m", contents="x", config=config)
            wanted: Any = {"city": "Oslo", "people": 700000}
            assert answer.parsed == (Town(**wanted) if "response_schema" in schema else wanted)

    script = ScriptedModel(['{"city":"Oslo","people":700000}'] * 2)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario)
    for turn in rollout.trace:
        wanted = turn.request.output_format
        assert wanted.kind == "json_schema"
        assert set(wanted.schema["properties"]) == {"city", "people"}


async def test_tokens_are_counted_and_models_listed(kind: str) -> None:
    async def scenario(client: Any) -> None:
        assert (await client.models.count_tokens(model="m", contents="x" * 40)).total_tokens == 10
        assert [model.name async for model in await client.models.list()] == ["models/my-gemini"]
        assert (await client.models.get(model="other")).name == "models/other"
        with pytest.raises(errors.ClientError) as caught:
            await client.models.count_tokens(model="m", contents=types.Content(role="klingon"))
        assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(model="my-gemini") as rollout:
        await play(rollout, kind, scenario)
    assert len(rollout.trace) == 0


STATUSES = (400, 401, 403, 404, 429, 500, 503)


async def test_each_status_is_an_api_error_with_its_code(kind: str) -> None:
    async def scenario(client: Any) -> None:
        for status in STATUSES:
            with pytest.raises(errors.APIError, match=f"status {status}") as caught:
                await client.models.generate_content(model="m", contents="x")
            assert caught.value.code == status
            assert isinstance(caught.value, errors.ClientError if status < 500 else errors.ServerError)
        with pytest.raises(errors.ClientError, match="status 404"):
            async for _ in await client.models.generate_content_stream(model="m", contents="x"):
                pass

    script = ScriptedModel(
        [*(Refusal(status, f"status {status}") for status in STATUSES), Refusal(404, "status 404")]
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario)
    assert script.remaining == 0


async def test_a_429_is_retried_into_a_success_where_the_client_retries(kind: str) -> None:
    async def scenario(client: Any) -> None:
        assert (await client.models.generate_content(model="m", contents="x")).text == "in the end"

    script = ScriptedModel([*[Refusal(429, "wait", retry_after=0.01)] * 2, "in the end"])
    retries = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        await play(rollout, kind, scenario, retry_options=retries)
    assert [turn.outcome for turn in rollout.trace] == ["refused", "refused", "answered"]


async def test_a_stream_that_fails_in_the_middle_raises(kind: str) -> None:
    async def half(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(503, "overloaded")

    async def scenario(client: Any) -> None:
        with pytest.raises(errors.APIError, match="overloaded") as caught:
            async for _ in await client.models.generate_content_stream(model="m", contents="x"):
                pass
        assert caught.value.code == 503

    async with serve_endpoint() as endpoint, endpoint.open_rollout(half) as rollout:
        await play(rollout, kind, scenario)
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_embeddings_of_one_text_and_of_several(kind: str) -> None:
    async def scenario(client: Any) -> None:
        one = await client.models.embed_content(model="gemini-embedding-001", contents="hello")
        several = await client.models.embed_content(
            model="gemini-embedding-001",
            contents=["hello", "there"],
            config=types.EmbedContentConfig(output_dimensionality=16, task_type="RETRIEVAL_QUERY"),
        )
        assert [len(each.values) for each in one.embeddings] == [1536]
        assert [len(each.values) for each in several.embeddings] == [16, 16]

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        await play(rollout, kind, scenario)
    assert [call.name for call in rollout.trace.services] == ["gemini-embedding-001"] * 2
