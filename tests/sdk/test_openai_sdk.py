"""The openai package in every mode it has: async under trio, and sync in a thread, by the same scenarios."""

import json
from typing import Any

import openai
import pydantic
import pytest
import trio

from tests.sdk.clients import open_client
from triocept import Exchange, Refusal, Response, ScriptedModel, Text, ToolCall, Usage, serve_endpoint
from triocept.types import Media, Reasoning, RefusalText

# The SDK leaves its async generators where a stream ends or fails; trio warns, and closes them.
pytestmark = [
    pytest.mark.filterwarnings(
        r"ignore:Async generator '(openai|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
    ),
    pytest.mark.parametrize("kind", ["async", "sync"]),
]

SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}
]
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
BOTH = Response.of("I look.", ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome"))
USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


class Town(pydantic.BaseModel):
    city: str
    people: int


TOWN = '{"city":"Oslo","people":700000}'


def said(text: str) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def test_chat_whole_streamed_and_by_the_helper(kind: str) -> None:
    answer = Response((Reasoning("hm"), Text("hello")), usage=USAGE)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([answer] * 3)) as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            whole = await client.chat.completions.create(**said("1"), reasoning_effort="high")
            stream = await client.chat.completions.create(
                **said("2"), stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            async with client.chat.completions.stream(
                **said("3"), stream_options={"include_usage": True}
            ) as helped:
                events = [event async for event in helped]
                final = await helped.get_final_completion()
    assert whole.choices[0].message.content == "hello"
    assert whole.choices[0].message.reasoning_content == "hm"
    assert whole.choices[0].finish_reason == "stop"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "hello"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "hm"
    assert "".join(event.delta for event in events if event.type == "content.delta") == "hello"
    assert [event.content for event in events if event.type == "content.done"] == ["hello"]
    for usage in (whole.usage, chunks[-1].usage, final.usage):
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
        assert usage.prompt_tokens_details.cached_tokens == 4
        assert usage.completion_tokens_details.reasoning_tokens == 2
    assert rollout.trace[0].request.reasoning.effort == "high"
    assert len({whole.id, chunks[0].id, final.id}) == 3


async def test_chat_parses_structured_output_and_tools_whole_and_streamed(kind: str) -> None:
    script = ScriptedModel(
        [TOWN, TOWN, BOTH, BOTH, Response.of(RefusalText("no")), Response.of("{", stop_reason="max_tokens")]
    )
    tool = openai.pydantic_function_tool(Town, name="weather")
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            completions = client.chat.completions
            parsed = await completions.parse(**said("1"), response_format=Town)
            assert parsed.choices[0].message.parsed == Town(city="Oslo", people=700000)
            async with completions.stream(**said("2"), response_format=Town) as stream:
                final = await stream.get_final_completion()
            assert final.choices[0].message.parsed == Town(city="Oslo", people=700000)
            called = await completions.parse(**said("3"), tools=CHAT_TOOLS)
            async with completions.stream(**said("4"), tools=CHAT_TOOLS) as stream:
                events = [event async for event in stream]
                streamed = await stream.get_final_completion()
            for message in (called.choices[0].message, streamed.choices[0].message):
                arguments = [call.function.parsed_arguments for call in message.tool_calls]
                assert arguments == [{"city": "Oslo"}, {"city": "Rome"}]
            done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
            assert [(e.index, e.parsed_arguments["city"]) for e in done] == [(0, "Oslo"), (1, "Rome")]
            refused = await completions.parse(**said("5"), response_format=Town, tools=[tool])
            assert refused.choices[0].message.refusal == "no"
            with pytest.raises(openai.LengthFinishReasonError):
                await completions.parse(**said("6"), response_format=Town)
    wanted = rollout.trace[0].request.output_format
    assert (wanted.kind, wanted.name, wanted.strict) == ("json_schema", "Town", True)
    assert set(wanted.schema["properties"]) == {"city", "people"}
    assert rollout.trace[2].request.tools[0].strict is True


async def test_a_chat_tool_loop_of_parallel_calls_with_an_image(kind: str) -> None:
    script = ScriptedModel([BOTH, lambda request: " and ".join(r.text for r in request.tool_results)])
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "weather here?"}, picture]}]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            first = await client.chat.completions.create(
                model="m",
                messages=messages,
                tools=CHAT_TOOLS,
                parallel_tool_calls=True,
                tool_choice="required",
            )
            assert first.choices[0].finish_reason == "tool_calls"
            message = first.choices[0].message
            messages.append(message)
            for call in message.tool_calls:
                content = f"sun in {json.loads(call.function.arguments)['city']}"
                messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
            last = await client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
            assert last.choices[0].message.content == "sun in Oslo and sun in Rome"
    request = rollout.trace[0].request
    assert (request.parallel_tool_calls, request.tool_choice.mode) == (True, "required")
    (image,) = [part for part in request.messages[0].content if isinstance(part, Media)]
    assert (image.kind, image.media_type, image.data) == ("image", "image/png", PIXEL)
    assert len(rollout.trace.threads) == 1


async def test_completions_whole_and_streamed(kind: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel(["one", "two"])) as rollout:
        async with open_client(rollout, "openai_completions", kind) as client:
            whole = await client.completions.create(model="m", prompt="1", stop=["\n"], max_tokens=7)
            assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("one", "stop")
            assert whole.usage.total_tokens > 0
            chunks = [
                chunk
                async for chunk in await client.completions.create(
                    model="m", prompt="2", stream=True, stream_options={"include_usage": True}
                )
            ]
            assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "two"
            assert chunks[-1].usage.total_tokens > 0
    sampling = rollout.trace[0].request.sampling
    assert (sampling.stop, sampling.max_output_tokens) == (("\n",), 7)


async def test_responses_whole_streamed_and_by_the_helper(kind: str) -> None:
    answer = Response((Reasoning("hm"), Text("hello")), usage=USAGE)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([answer] * 3)) as rollout:
        async with open_client(rollout, "openai_responses", kind) as client:
            how: Any = {"model": "m", "reasoning": {"effort": "low", "summary": "auto"}}
            whole = await client.responses.create(input="1", **how)
            stream = await client.responses.create(input="2", stream=True, **how)
            events = [event async for event in stream]
            async with client.responses.stream(input="3", **how) as helped:
                seen = [event async for event in helped]
                final = await helped.get_final_response()
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "hello"
    assert [event.snapshot for event in seen if event.type == "response.output_text.delta"][-1] == "hello"
    for response in (whole, events[-1].response, final):
        assert response.status == "completed"
        assert response.output_text == "hello"
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert "hm" in json.dumps(response.output[0].model_dump())
        assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)
        assert response.usage.input_tokens_details.cached_tokens == 4
        assert response.usage.output_tokens_details.reasoning_tokens == 2
    assert rollout.trace[0].request.reasoning.effort == "low"


async def test_responses_parse_structured_output_whole_and_streamed(kind: str) -> None:
    script = ScriptedModel([TOWN, TOWN, BOTH])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "openai_responses", kind) as client:
            parsed = await client.responses.parse(model="m", input="1", text_format=Town)
            assert parsed.output_parsed == Town(city="Oslo", people=700000)
            async with client.responses.stream(model="m", input="2", text_format=Town) as stream:
                final = await stream.get_final_response()
            assert final.output_parsed == Town(city="Oslo", people=700000)
            async with client.responses.stream(model="m", input="3", tools=TOOLS) as stream:
                events = [event async for event in stream]
                final = await stream.get_final_response()
            calls = [item for item in final.output if item.type == "function_call"]
            assert [call.parsed_arguments for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}]
            done = [e for e in events if e.type == "response.function_call_arguments.done"]
            assert [json.loads(event.arguments)["city"] for event in done] == ["Oslo", "Rome"]
            assert [event.name for event in done] == ["weather", "weather"]
    assert rollout.trace[0].request.output_format.name == "Town"


async def test_a_tool_loop_of_responses_with_an_image_by_items_and_by_the_earlier_id(kind: str) -> None:
    def tell(request: Any) -> str:
        return " and ".join(result.text for result in request.tool_results)

    script = ScriptedModel([BOTH, tell, tell])
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "weather?"}, picture]}]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "openai_responses", kind) as client:
            first = await client.responses.create(model="m", input=asked, tools=TOOLS)
            calls = [item for item in first.output if item.type == "function_call"]
            results: Any = [
                {"type": "function_call_output", "call_id": c.call_id, "output": f"sun {n}"}
                for n, c in enumerate(calls)
            ]
            by_items = await client.responses.create(
                model="m", input=[*asked, *first.output, *results], tools=TOOLS
            )
            by_id = await client.responses.create(
                model="m", input=results, previous_response_id=first.id, tools=TOOLS
            )
            assert by_items.output_text == by_id.output_text == "sun 0 and sun 1"
            assert by_id.previous_response_id == first.id
            async with client.responses.stream(response_id=by_id.id) as again:
                assert (await again.get_final_response()).output_text == by_id.output_text
            again = await client.responses.retrieve(by_id.id)
            assert again.output_text == by_id.output_text
            items = await client.responses.input_items.list(by_items.id, order="asc")
            kinds = [item.type for item in items.data]
            assert kinds == ["message", "message", *["function_call"] * 2, *["function_call_output"] * 2]
            with pytest.raises(openai.NotFoundError, match="resp_none"):
                await client.responses.retrieve("resp_none")
            with pytest.raises(openai.BadRequestError) as caught:
                await client.responses.create(model="m", input="x", previous_response_id="resp_none")
            assert caught.value.code == "previous_response_not_found"
    (image,) = [part for part in rollout.trace[0].request.messages[0].content if isinstance(part, Media)]
    assert (image.media_type, image.data) == ("image/png", PIXEL)
    first_turn, *others = rollout.trace
    assert [rollout.trace.parents[turn.id] for turn in others] == [first_turn.id] * 2


async def test_raw_and_streaming_responses_show_the_headers(kind: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel(["a", "b", "c"])) as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            raw = await client.chat.completions.with_raw_response.create(**said("1"))
            assert raw.headers["content-type"] == "application/json"
            assert raw.parse().choices[0].message.content == "a"
            pieces = client.chat.completions.with_streaming_response.create(**said("2"), stream=True)
            async with pieces as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                lines = [line async for line in response.iter_lines() if line]
            assert lines[-1] == "data: [DONE]"
            other = await client.responses.with_raw_response.create(model="m", input="3")
            assert other.parse().output_text == "c"
            assert [model.id for model in (await client.models.list()).data] == ["triocept"]
            assert (await client.models.retrieve("some/other")).id == "some/other"


ERRORS = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (409, openai.ConflictError),
    (422, openai.UnprocessableEntityError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (529, openai.InternalServerError),
]


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_responses"])
async def test_each_status_is_the_error_of_its_type(kind: str, dialect: str) -> None:
    script = ScriptedModel([Refusal(status, f"status {status}", code="because") for status, _ in ERRORS])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, dialect, kind, max_retries=0) as client:
            ask: Any = {
                "openai_chat": lambda: client.chat.completions.create(**said("x")),
                "openai_completions": lambda: client.completions.create(model="m", prompt="x"),
                "openai_responses": lambda: client.responses.create(model="m", input="x"),
            }[dialect]
            for status, error in ERRORS:
                with pytest.raises(error, match=f"status {status}") as caught:
                    await ask()
                assert type(caught.value) is error
                assert caught.value.code == "because"
    assert script.remaining == 0


async def test_a_429_that_says_when_is_retried_into_a_success_and_a_no_ends_it(kind: str) -> None:
    script = ScriptedModel(
        [
            *[Refusal(429, "wait", retry_after=0.01)] * 2, "in the end",
            Refusal(503, "wait", retry_after=0.01), "in pieces", Refusal(500, "no", should_retry=False),
        ],
    )  # fmt: skip
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with open_client(rollout, "openai_responses", kind) as client:
            raw = await client.responses.with_raw_response.create(model="m", input="1")
            assert (raw.parse().output_text, raw.retries_taken) == ("in the end", 2)
            async with client.responses.stream(model="m", input="2") as stream:
                assert (await stream.get_final_response()).output_text == "in pieces"
            with pytest.raises(openai.InternalServerError, match="no"):
                await client.responses.create(model="m", input="3")
    assert [turn.attempt for turn in rollout.trace] == [1, 2, 3, 1, 2, 1]


async def half(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("half")
        raise Refusal(503, "overloaded")


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_responses"])
async def test_a_stream_that_fails_in_the_middle_raises(kind: str, dialect: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(half) as rollout:
        async with open_client(rollout, dialect, kind) as client:
            with pytest.raises(openai.APIError, match="overloaded"):
                if dialect == "openai_chat":
                    stream = await client.chat.completions.create(**said("x"), stream=True)
                elif dialect == "openai_completions":
                    stream = await client.completions.create(model="m", prompt="x", stream=True)
                else:
                    stream = await client.responses.create(model="m", input="x", stream=True)
                async for _ in stream:
                    pass
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_client_that_closes_its_stream_abandons_the_turn(kind: str) -> None:
    waiting = trio.Event()

    async def slow(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            try:
                await trio.sleep_forever()
            finally:
                waiting.set()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(slow) as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            stream = await client.chat.completions.create(**said("x"), stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()
            await waiting.wait()
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"]
    assert rollout.trace[0].response.text == "half"


async def test_embeddings_and_moderations(kind: str) -> None:
    """The SDK asks for base64 unasked, and makes floats of it."""
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            ask: Any = {"model": "text-embedding-3-small", "input": ["refund policy", "policy of refunds"]}
            unasked = await client.embeddings.create(**ask)
            floats = await client.embeddings.create(**ask, encoding_format="float", dimensions=256)
            packed = await client.embeddings.create(**ask, encoding_format="base64", dimensions=256)
            tokens = await client.embeddings.create(model="m", input=[[15339, 1917]])
            moderated = await client.moderations.create(
                input=[
                    {"type": "text", "text": "hello"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ]
            )
    assert [len(each.embedding) for each in unasked.data] == [1536, 1536]
    assert [len(each.embedding) for each in floats.data] == [256, 256]
    assert isinstance(packed.data[0].embedding, str)
    assert unasked.usage.prompt_tokens == 7
    assert tokens.usage.prompt_tokens == 2
    assert [result.flagged for result in moderated.results] == [False]
    assert moderated.results[0].categories.violence is False
    assert [call.kind for call in rollout.trace.services] == ["embeddings"] * 4 + ["moderations"]
    assert rollout.trace.services[0].arguments["encoding_format"] == "base64"


async def test_what_is_not_served_is_one_error_and_no_retry(kind: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with open_client(rollout, "openai_chat", kind) as client:
            with pytest.raises(openai.InternalServerError, match="this endpoint has no path") as raised:
                await client.images.generate(prompt="a cat")
            with pytest.raises(openai.BadRequestError, match="input: must not be empty"):
                await client.embeddings.create(model="m", input=[])
    assert raised.value.status_code == 501
