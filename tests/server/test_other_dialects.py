"""Responses, completions and Gemini over a real socket, and what their clients ask beside the model."""

import httpx2
import openai
import pytest
import trio

from triocept import Exchange, Refusal, ScriptedModel, ToolCall, serve_endpoint

# The SDKs leave their async generators where a stream ends; trio warns, and closes them.
pytestmark = [
    pytest.mark.usefixtures("every_way"),
    pytest.mark.filterwarnings(
        r"ignore:Async generator '(openai|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
    ),
]


async def test_responses_go_on_from_an_earlier_one_and_are_told_again() -> None:
    script = ScriptedModel(["first", ToolCall.of("look", at="it"), "third"])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with rollout.client("openai_responses") as client:
            first = await client.responses.create(model="m", input="hi", instructions="be brief")
            assert first.output_text == "first"
            second = await client.responses.create(model="m", input="and now?", previous_response_id=first.id)
            assert second.output[0].type == "function_call"
            stream = await client.responses.create(
                model="m",
                previous_response_id=second.id,
                input=[
                    {"type": "function_call_output", "call_id": second.output[0].call_id, "output": "seen"}
                ],
                stream=True,
            )
            events = [event async for event in stream]
            assert events[0].type == "response.created"
            assert events[-1].type == "response.completed"
            assert events[-1].response.output_text == "third"
            again = await client.responses.retrieve(first.id)
            assert again.output_text == "first"
            items = await client.responses.input_items.list(first.id)
            assert items.data
            with pytest.raises(openai.BadRequestError, match="no response with the id 'resp_none'"):
                await client.responses.create(model="m", input="x", previous_response_id="resp_none")
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve("resp_none")
    texts = [[message.text for message in turn.request.messages] for turn in rollout.trace]
    assert texts[0] == ["be brief", "hi"]
    assert texts[1] == ["hi", "first", "and now?"]
    assert texts[2][:3] == ["hi", "first", "and now?"]
    assert [result.text for result in rollout.trace[2].request.tool_results] == ["seen"]
    assert len(rollout.trace.threads) == 2  # the instructions were the first call's alone, as OpenAI has it


async def test_an_answer_that_was_silent_at_first_can_be_gone_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 0.01)
    noticed = trio.Event()

    async def answer(exchange: Exchange) -> None:
        await noticed.wait()  # `created` has gone out, with the id, before anything was said
        await exchange.respond("hello")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with rollout.client("openai_responses", max_retries=0) as client:
            events = []
            async for event in await client.responses.create(model="m", input="hi", stream=True):
                events.append(event)
                noticed.set()
            assert events[0].type == "response.created"
            first = events[-1].response
            assert {events[0].response.id, first.id} == {rollout.trace[0].response.id}
            second = await client.responses.create(model="m", input="x", previous_response_id=first.id)
            assert second.output_text == "hello"
    assert [message.text for message in rollout.trace[1].request.messages] == ["hi", "hello", "x"]


async def test_an_item_of_an_answer_is_found_by_its_id_behind_a_call_that_got_no_answer() -> None:
    script = ScriptedModel(["first", Refusal(400, "no"), "third"])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with rollout.client("openai_responses", max_retries=0) as client:
            first = await client.responses.create(model="m", input="hi")
            with pytest.raises(openai.BadRequestError, match="no"):
                await client.responses.create(model="m", input="and now?")
            item = {"type": "item_reference", "id": first.output[0].id}
            assert (await client.responses.create(model="m", input=[item])).output_text == "third"
    assert [message.text for message in rollout.trace[2].request.messages] == ["first"]


async def test_completions_whole_and_streamed_and_what_they_cannot_say() -> None:
    script = ScriptedModel(["one", "two", ToolCall.of("t")])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with rollout.client("openai_completions", max_retries=0) as client:
            whole = await client.completions.create(model="m", prompt="say")
            assert whole.choices[0].text == "one"
            stream = await client.completions.create(model="m", prompt="say more", stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == "two"
            with pytest.raises(openai.InternalServerError, match="tool"):
                await client.completions.create(model="m", prompt="call")


@pytest.mark.parametrize("begun", [True, False])
async def test_a_streamed_call_that_completions_cannot_say_is_an_error_that_the_agent_sees(
    begun: bool,
) -> None:
    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            if begun:
                await stream.send("let me ")
            await stream.send(ToolCall.of("t"))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with rollout.client("openai_completions", max_retries=0) as client:
            with pytest.raises(openai.APIError, match="no tool calls"):
                stream = await client.completions.create(model="m", prompt="say", stream=True)
                async for _ in stream:
                    pass


async def test_gemini_whole_as_events_and_as_an_array_and_its_side_routes() -> None:
    script = ScriptedModel(["one", "two", "three"])
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script, model="my-gemini") as rollout:
        base = f"{rollout.base_url('gemini')}/v1beta/models"
        async with httpx2.AsyncClient(headers={"x-goog-api-key": rollout.api_key}) as client:
            whole = await client.post(f"{base}/gemini-x:generateContent", json=body)
            events = await client.post(f"{base}/gemini-x:streamGenerateContent?alt=sse", json=body)
            array = await client.post(f"{base}/gemini-x:streamGenerateContent", json=body)
            counted = await client.post(f"{base}/gemini-x:countTokens", json=body)
            models = await client.get(base)
            bad = await client.post(f"{base}/gemini-x:countTokens", content=b"{")
    assert whole.json()["candidates"][0]["content"]["parts"][0]["text"] == "one"
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith("data: {")
    assert (
        "".join(part["candidates"][0]["content"]["parts"][0]["text"] for part in array.json()[:1]) == "three"
    )
    assert counted.json()["totalTokens"] >= 1
    assert "my-gemini" in models.text
    assert bad.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert [turn.request.model for turn in rollout.trace] == ["gemini-x"] * 3


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_the_side_routes_of_gemini_are_there_in_every_version_of_its_api(version: str) -> None:
    body = {"contents": [{"parts": [{"text": "x" * 40}]}]}
    async with serve_endpoint() as endpoint, endpoint.open_rollout(model="my-gemini") as rollout:
        base = f"{rollout.base_url('gemini')}/{version}/models"
        async with httpx2.AsyncClient(headers={"x-goog-api-key": rollout.api_key}) as client:
            assert (await client.post(f"{base}/m:countTokens", json=body)).json() == {"totalTokens": 10}
            assert [each["name"] for each in (await client.get(base)).json()["models"]] == [
                "models/my-gemini"
            ]
            assert (await client.get(f"{base}/m")).json()["name"] == "models/m"
