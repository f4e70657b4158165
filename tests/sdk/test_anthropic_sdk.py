"""The anthropic package in every mode it has: async under trio, and sync in a thread, by the same scenarios."""

from typing import Any

import anthropic
import pydantic
import pytest
import trio

from tests.sdk.clients import open_client
from triocept import Exchange, Refusal, Response, ScriptedModel, Text, ToolCall, Usage, serve_endpoint
from triocept.types import Media, Reasoning

# The SDK leaves its async generators where a stream ends or fails; trio warns, and closes them.
pytestmark = [
    pytest.mark.filterwarnings(
        r"ignore:Async generator '(anthropic|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
    ),
    pytest.mark.parametrize("kind", ["async", "sync"]),
]

SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "weather", "description": "The weather.", "input_schema": SCHEMA}]
BOTH = Response.of("I look.", ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome"))
USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


class Town(pydantic.BaseModel):
    city: str
    people: int


TOWN = '{"city":"Oslo","people":700000}'


def said(text: str) -> Any:
    return {"model": "m", "max_tokens": 2048, "messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("beta", [False, True])
async def test_messages_whole_streamed_and_by_the_helper(kind: str, beta: bool) -> None:
    answer = Response((Reasoning("hm"), Text("hello")), usage=USAGE)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([answer] * 3)) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            messages = client.beta.messages if beta else client.messages
            whole = await messages.create(**said("1"), thinking=THINKING)
            stream = await messages.create(**said("2"), thinking=THINKING, stream=True)
            events = [event async for event in stream]
            async with messages.stream(**said("3"), thinking=THINKING) as helped:
                seen = [event async for event in helped]
                final = await helped.get_final_message()
                assert await helped.get_final_text() == "hello"
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert "".join(event.text for event in seen if event.type == "text") == "hello"
    assert "".join(event.thinking for event in seen if event.type == "thinking") == "hm"
    for message in (whole, final):
        thought, text = message.content
        assert (thought.thinking, text.text, message.stop_reason) == ("hm", "hello", "end_turn")
        assert thought.signature
        assert (message.usage.input_tokens, message.usage.output_tokens) == (6, 5)
        assert message.usage.cache_read_input_tokens == 4
    assert rollout.trace[0].request.reasoning.budget_tokens == 1024


async def test_messages_parse_structured_output_whole_and_streamed(kind: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([TOWN] * 3)) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            parsed = await client.messages.parse(**said("1"), output_format=Town)
            assert parsed.parsed_output == Town(city="Oslo", people=700000)
            async with client.messages.stream(**said("2"), output_format=Town) as stream:
                final = await stream.get_final_message()
            assert final.parsed_output == Town(city="Oslo", people=700000)
            beta = await client.beta.messages.parse(**said("3"), output_format=Town)
            assert beta.parsed_output == Town(city="Oslo", people=700000)
    for turn in rollout.trace:
        wanted = turn.request.output_format
        assert wanted.kind == "json_schema"
        assert set(wanted.schema["properties"]) == {"city", "people"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_of_parallel_calls_with_thinking_and_an_image(kind: str, streamed: bool) -> None:
    heard = Response((Reasoning("hm"), *BOTH.content))
    script = ScriptedModel([heard, lambda request: " and ".join(r.text for r in request.tool_results)])
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "text", "text": "weather here?"}, {"type": "image", "source": source}]
    messages: Any = [{"role": "user", "content": content}]
    how: Any = {"model": "m", "max_tokens": 2048, "tools": TOOLS, "thinking": THINKING}

    async def ask(client: Any, **more: Any) -> Any:
        if not streamed:
            return await client.messages.create(messages=messages, **how, **more)
        async with client.messages.stream(messages=messages, **how, **more) as stream:
            return await stream.get_final_message()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            first = await ask(client, tool_choice={"type": "auto", "disable_parallel_tool_use": False})
            assert first.stop_reason == "tool_use"
            assert [block.type for block in first.content] == ["thinking", "text", "tool_use", "tool_use"]
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": f"sun in {block.input['city']}"}
                for block in first.content
                if block.type == "tool_use"
            ]
            messages += [
                {"role": "assistant", "content": first.content},
                {"role": "user", "content": results},
            ]
            last = await ask(client)
            assert last.content[-1].text == "sun in Oslo and sun in Rome"
            counted = await client.messages.count_tokens(model="m", messages=messages, tools=TOOLS)
            beta = await client.beta.messages.count_tokens(model="m", messages=messages, tools=TOOLS)
            assert counted.input_tokens == beta.input_tokens > 10
            assert [model.id for model in (await client.models.list()).data] == ["triocept"]
            assert (await client.models.retrieve("some/other")).id == "some/other"
    one, two = rollout.trace
    (image,) = [part for part in one.request.messages[0].content if isinstance(part, Media)]
    assert (image.kind, image.media_type, image.data) == ("image", "image/png", PIXEL)
    assert one.request.parallel_tool_calls is True
    assert [part.text for part in two.request.messages[1].content if isinstance(part, Reasoning)] == ["hm"]
    assert len(rollout.trace.threads) == 1


async def test_the_tool_runner_runs_its_tools_to_the_end(kind: str) -> None:
    script = ScriptedModel([BOTH, lambda request: " and ".join(r.text for r in request.tool_results)])

    def weather(city: str) -> str:
        """The weather."""
        return f"sun in {city}"

    async def weather_async(city: str) -> str:
        """The weather."""
        return weather(city)

    if kind == "sync":
        tool: Any = anthropic.beta_tool(weather)
    else:
        tool = anthropic.beta_async_tool(weather_async, name="weather")
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            runner = client.beta.messages.tool_runner(**said("weather?"), tools=[tool])
            seen = [message async for message in runner]
    assert [message.stop_reason for message in seen] == ["tool_use", "end_turn"]
    assert seen[-1].content[0].text == "sun in Oslo and sun in Rome"
    assert len(rollout.trace.threads) == 1, "the runner sends the results alone, and names the answer before"
    assert [tool.name for tool in rollout.trace[1].request.tools] == [tool.name]


async def test_a_thread_goes_on_whole_and_streamed_and_begins_anew_where_it_is_lost(kind: str) -> None:
    lost = Refusal(404, "gone", code="previous_response_not_found")
    script = ScriptedModel(["one", "two", "three", lost, "four"])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            thread = client.beta.messages.thread(model="m", max_tokens=9, system="be brief")
            if kind == "sync":
                thread = await thread
            hello: Any = {"role": "user", "content": "hello"}
            assert (await thread.send(hello)).content[0].text == "one"
            async with thread.stream(hello) as stream:
                assert await stream.get_final_text() == "two"
            known = thread.previous_message_id
            with pytest.raises(anthropic.types.ThreadNotFoundError, match="msg_none"):
                await client.beta.messages.create(
                    **said("x"), thread={"type": "continue", "previous_message_id": "msg_none"}
                )
            more: Any = {"type": "continue", "previous_message_id": known}
            again = await client.beta.messages.create(**said("by hand"), thread=more)
            assert again.content[0].text == "three"
            assert (await thread.send(hello)).content[0].text == "four"
    _, second, third, _, fourth = rollout.trace
    assert [message.text for message in second.request.messages] == ["be brief", "hello", "one", "hello"]
    assert second.request.system == "be brief"
    assert third.request.messages[-1].text == "by hand"
    whole = ["be brief", "hello", "one", "hello", "two", "hello"]
    assert [message.text for message in fourth.request.messages] == whole
    assert (third.request.continued_from, fourth.request.continued_from) == (known, None)


async def test_raw_and_streaming_responses_show_the_headers(kind: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel(["a", "b"])) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            raw = await client.messages.with_raw_response.create(**said("1"))
            assert raw.headers["content-type"] == "application/json"
            assert (await raw.parse()).content[0].text == "a"
            async with client.messages.with_streaming_response.create(**said("2"), stream=True) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                lines = [line async for line in response.iter_lines() if line]
            assert lines[0] == "event: message_start"
            assert lines[-2] == "event: message_stop"


ERRORS = [
    (400, anthropic.BadRequestError),
    (401, anthropic.AuthenticationError),
    (403, anthropic.PermissionDeniedError),
    (404, anthropic.NotFoundError),
    (409, anthropic.ConflictError),
    (413, anthropic.RequestTooLargeError),
    (422, anthropic.UnprocessableEntityError),
    (429, anthropic.RateLimitError),
    (500, anthropic.InternalServerError),
    (503, anthropic.ServiceUnavailableError),
    (529, anthropic.OverloadedError),
]


async def test_each_status_is_the_error_of_its_type(kind: str) -> None:
    script = ScriptedModel([Refusal(status, f"status {status}") for status, _ in ERRORS])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "anthropic_messages", kind, max_retries=0) as client:
            for status, error in ERRORS:
                with pytest.raises(error, match=f"status {status}") as caught:
                    await client.messages.create(**said("x"))
                assert caught.value.status_code == status
                assert caught.value.body["type"] == "error"
            with pytest.raises(anthropic.NotFoundError, match="frobnicate"):
                await client.post("/v1/frobnicate", cast_to=object)
    assert script.remaining == 0


async def test_a_429_that_says_when_is_retried_into_a_success_and_a_no_ends_it(kind: str) -> None:
    script = ScriptedModel(
        [
            *[Refusal(429, "wait", retry_after=0.01)] * 2, "in the end",
            Refusal(529, "wait", retry_after=0.01), "in pieces", Refusal(500, "no", should_retry=False),
        ],
    )  # fmt: skip
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            raw = await client.messages.with_raw_response.create(**said("1"))
            assert ((await raw.parse()).content[0].text, raw.retries_taken) == ("in the end", 2)
            async with client.messages.stream(**said("2")) as stream:
                assert "".join([text async for text in stream.text_stream]) == "in pieces"
            with pytest.raises(anthropic.InternalServerError, match="no"):
                await client.messages.create(**said("3"))
    assert [turn.attempt for turn in rollout.trace] == [1, 2, 3, 1, 2, 1]


async def test_a_stream_that_fails_in_the_middle_raises(kind: str) -> None:
    async def half(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(529, "too many of you")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(half) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            with pytest.raises(anthropic.APIStatusError, match="too many of you") as caught:
                async for _ in await client.messages.create(**said("x"), stream=True):
                    pass
    assert caught.value.body["error"]["type"] == "overloaded_error"
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_client_that_leaves_its_stream_abandons_the_turn(kind: str) -> None:
    waiting = trio.Event()

    async def slow(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            try:
                await trio.sleep_forever()
            finally:
                waiting.set()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(slow) as rollout:
        async with open_client(rollout, "anthropic_messages", kind) as client:
            async with client.messages.stream(**said("x")) as stream:
                async for event in stream:
                    if event.type == "text":
                        break
            await waiting.wait()
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"]
    assert rollout.trace[0].response.text == "half"
