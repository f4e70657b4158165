"""Open Responses (openresponses.org): the seven cases of its compliance test, on a real endpoint by a real HTTP client.

What each case asks and checks is that of the project's own `src/lib/compliance-tests.ts` (read at 0cb939c); the shapes
are those of its schema, as `openresponses-types` has them. Its tool takes every event of a stream for one of a closed
list.
"""

import json
from typing import Any

import httpx2
import openresponses_types.types as types
import pytest
from pydantic import BaseModel

from triocept import Exchange, Refusal, Response, Rollout, Text, ToolCall, serve_endpoint
from triocept.types import Reasoning, RefusalText

EVENTS = {
    kind.value: model
    for model in vars(types).values()
    if isinstance(model, type) and issubclass(model, BaseModel) and model.__name__.endswith("StreamingEvent")
    for kind in model.model_fields["type"].annotation  # type: ignore[union-attr]
}
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4"
    "//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=="
)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "A city"}},
        "required": ["location"],
    },
}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


ASKED: dict[str, dict[str, Any]] = {
    "basic-response": {"input": [said("user", "Say hello in three words.")]},
    "streaming-response": {"input": [said("user", "Count to five.")], "stream": True},
    "system-prompt": {"input": [said("system", "Speak like a pirate."), said("user", "Say hello.")]},
    "tool-calling": {"input": [said("user", "How is the weather in Rome?")], "tools": [WEATHER]},
    "tool-calling-streaming": {"input": [said("user", "How is the weather in Rome?")], "tools": [WEATHER],
     "stream": True},
    "image-input": {"input": [said("user",
       [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": RED_DOT}])]},
    "multi-turn": {"input": [said("user", "My name is Ada."), said("assistant", "Hello Ada! How can I help?"),
      said("user", "What is my name?")]},
}  # fmt: skip


async def model(exchange: Exchange) -> None:
    if exchange.request.tools:
        await exchange.respond(ToolCall.of("get_weather", location="Rome"))
    elif exchange.request.stream:
        async with exchange.open_stream() as stream:
            for word in ("one ", "two ", "three"):
                await stream.send(word)
    else:
        await exchange.respond("Hello to you")


async def asked(rollout: Rollout, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The final response, and the events before and with it."""
    async with httpx2.AsyncClient(timeout=None) as client:
        answer = await client.post(
            f"{rollout.base_url('openai_responses')}/responses",
            json={"model": "m", "stream": False, **body},
            headers={"Authorization": f"Bearer {rollout.api_key}"},
        )
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        return answer.json(), []
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return events[-1]["response"], events


def check_resource(document: dict[str, Any]) -> None:
    types.ResponseResource.model_validate(document)
    assert "user" in document  # required by the schema's own document, and not by the package


def check_events(events: list[dict[str, Any]]) -> None:
    assert events
    for event in events:
        EVENTS[event["type"]].model_validate(event)


@pytest.mark.parametrize("case", ASKED)
async def test_a_case_of_the_compliance_test_passes(case: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as rollout:
        final, events = await asked(rollout, **ASKED[case])
    check_resource(final)
    assert final["output"]
    assert final["status"] == "completed"
    if ASKED[case].get("stream"):
        check_events(events)
    if case == "tool-calling":
        assert [item["type"] for item in final["output"]] == ["function_call"]
    if case == "tool-calling-streaming":
        told = {(event["type"], event.get("item", {}).get("type")) for event in events}
        assert ("response.output_item.added", "function_call") in told
        assert ("response.output_item.done", "function_call") in told
        assert ("response.function_call_arguments.delta", None) in told
        assert ("response.function_call_arguments.done", None) in told


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", [
    Response.of("half of i", stop_reason="max_tokens"),
    Response.of(Reasoning("hm"), "hello"),
    Response.of(RefusalText("no")),
    Response.of(Text("let me look"), ToolCall.of("get_weather"), ToolCall.of("get_weather")),
], ids=["incomplete", "reasoning", "a refusal", "several calls"])  # fmt: skip
async def test_what_its_cases_do_not_ask_fits_its_schema_too(answer: Response, stream: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(answer)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        final, events = await asked(
            rollout, input="hi", stream=stream, tools=[{"type": "function", "name": "get_weather"}]
        )
    check_resource(final)
    assert (final["completed_at"] is None) == (final["status"] == "incomplete")
    if stream:
        check_events(events)


async def test_an_answer_repeats_all_that_was_asked() -> None:
    wishes: dict[str, Any] = {
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "top_logprobs": 3,
        "max_tool_calls": 4,
        "prompt_cache_key": "cache",
        "safety_identifier": "somebody",
        "temperature": 0.25,
    }
    async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as rollout:
        final, _ = await asked(rollout, input="hi", **wishes)
        plain, _ = await asked(rollout, input="hi", service_tier="auto")
        first = (await asked(rollout, input="hi", stream=True))[1][0]["response"]
    assert {name: final[name] for name in wishes} == wishes
    for document in (plain, first):
        check_resource(document)
        assert document["service_tier"] == "default"
        assert {name: document[name] for name in wishes} == {
            "frequency_penalty": 0.0, "presence_penalty": 0.0, "top_logprobs": 0, "max_tool_calls": None,
            "prompt_cache_key": None, "safety_identifier": None, "temperature": 1.0,
        }  # fmt: skip


async def test_a_failure_in_the_stream_fits_its_schema() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("hel")
            raise Refusal(500, "no more")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with httpx2.AsyncClient(timeout=None) as client:
            body = b""
            try:
                async with client.stream(
                    "POST",
                    f"{rollout.base_url('openai_responses')}/responses",
                    json={"model": "m", "input": "hi", "stream": True},
                    headers={"Authorization": f"Bearer {rollout.api_key}"},
                ) as answer:
                    async for piece in answer.aiter_bytes():
                        body += piece
            except httpx2.HTTPError:
                pass  # the connection is broken off
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    assert events[-1]["type"] == "error"
    check_events(events)
