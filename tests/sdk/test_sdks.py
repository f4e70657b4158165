"""The official Python SDKs, as users run them: async under trio in this process, and sync in one of their own."""

from __future__ import annotations

import json
import sys
import textwrap
from functools import partial
from typing import Any

import anthropic
import openai
import pytest
import trio

from triocept import Exchange, Refusal, Response, Rollout, ToolCall, serve_endpoint
from triocept.handlers import ScriptedModel
from triocept.types import Reasoning

# The SDKs leave their async generators where a stream ends or fails; trio warns, and closes them.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(openai|anthropic|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
)

WEATHER: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
ANTHROPIC_TOOLS: Any = [{"name": "weather", "input_schema": WEATHER}]


async def test_openai_create_stream_and_tool_loop_under_trio() -> None:
    script = ScriptedModel(
        [
            "hello",
            "hello stream",
            Response.of("I look.", ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome")),
            lambda request: " and ".join(result.text for result in request.tool_results),
        ]
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with rollout.client("openai_chat") as client:
            create = partial(client.chat.completions.create, model="m")
            whole = await create(messages=[{"role": "user", "content": "hi"}])
            assert whole.choices[0].message.content == "hello"
            pieces = await create(
                messages=[{"role": "user", "content": "hi!"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in pieces]
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "hello stream"
            assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
            assert chunks[-1].usage is not None
            messages: Any = [{"role": "user", "content": "weather?"}]
            async with client.chat.completions.stream(
                model="m", messages=messages, tools=OPENAI_TOOLS
            ) as stream:
                done = await stream.get_final_completion()
            calls = done.choices[0].message.tool_calls
            assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
            messages.append(done.choices[0].message)
            messages += [
                {"role": "tool", "tool_call_id": c.id, "content": f"sun {n}"} for n, c in enumerate(calls)
            ]
            end = await create(messages=messages, tools=OPENAI_TOOLS)
            assert end.choices[0].message.content == "sun 0 and sun 1"
    assert [turn.outcome for turn in rollout.trace] == ["answered"] * 4
    assert len(rollout.trace.threads) == 3


async def test_anthropic_create_stream_and_tool_loop_under_trio() -> None:
    script = ScriptedModel(
        [
            "hello",
            Response.of(Reasoning("hmm"), "hello stream"),
            Response.of("I look.", ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome")),
            lambda request: " and ".join(result.text for result in request.tool_results),
        ]
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with rollout.client("anthropic_messages") as client:
            create = partial(client.messages.create, model="m", max_tokens=100)
            whole = await create(messages=[{"role": "user", "content": "hi"}])
            assert whole.content[0].text == "hello"
            assert whole.stop_reason == "end_turn"
            async with client.messages.stream(
                model="m", max_tokens=100, messages=[{"role": "user", "content": "hi!"}]
            ) as stream:
                assert [text async for text in stream.text_stream] == ["hello stream"]
                assert [block.type for block in (await stream.get_final_message()).content] == [
                    "thinking",
                    "text",
                ]
            messages: Any = [{"role": "user", "content": "weather?"}]
            async with client.messages.stream(
                model="m", max_tokens=100, messages=messages, tools=ANTHROPIC_TOOLS
            ) as stream:
                done = await stream.get_final_message()
            calls = [block for block in done.content if block.type == "tool_use"]
            assert [call.input["city"] for call in calls] == ["Oslo", "Rome"]
            assert done.stop_reason == "tool_use"
            results = [
                {"type": "tool_result", "tool_use_id": c.id, "content": f"sun {n}"}
                for n, c in enumerate(calls)
            ]
            messages += [{"role": "assistant", "content": done.content}, {"role": "user", "content": results}]
            end = await create(messages=messages, tools=ANTHROPIC_TOOLS)
            assert end.content[0].text == "sun 0 and sun 1"
            counted = await client.messages.count_tokens(model="m", messages=messages, tools=ANTHROPIC_TOOLS)
            assert counted.input_tokens > 10
    assert [turn.outcome for turn in rollout.trace] == ["answered"] * 4
    assert len(rollout.trace.threads) == 3


STATUSES = [
    # status, how many requests an SDK makes of it (3 for 408, 409, 429 and 5xx, else 1)
    (400, 1),
    (401, 1),
    (403, 1),
    (404, 1),
    (408, 3),
    (409, 3),
    (413, 1),
    (422, 1),
    (429, 3),
    (500, 3),
    (503, 3),
    (529, 3),
]


async def refusing(status: int, should_retry: bool | None, exchange: Exchange) -> None:
    raise Refusal(status, f"status {status}", retry_after=0.01, should_retry=should_retry)


async def call_sdk(rollout: Rollout, dialect: str) -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    async with rollout.client(dialect) as client:
        if dialect == "openai_chat":
            await client.chat.completions.create(model="m", messages=messages)
        else:
            await client.messages.create(model="m", max_tokens=9, messages=messages)


@pytest.mark.parametrize(("status", "requests"), STATUSES)
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
@pytest.mark.parametrize("should_retry", [None, False])
async def test_each_status_makes_an_sdk_do_what_it_does(
    status: int, requests: int, dialect: str, should_retry: bool | None
) -> None:
    error = openai.APIStatusError if dialect == "openai_chat" else anthropic.APIStatusError
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(partial(refusing, status, should_retry)) as rollout:
            with pytest.raises(error) as caught:
                await call_sdk(rollout, dialect)
    assert caught.value.status_code == status
    assert f"status {status}" in str(caught.value)
    assert len(rollout.trace) == (1 if should_retry is False else requests)
    assert [turn.attempt for turn in rollout.trace] == list(range(1, len(rollout.trace) + 1))


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
async def test_an_sdk_sees_a_stream_that_fails_fail(dialect: str) -> None:
    async def half(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(529, "overloaded")

    messages: Any = [{"role": "user", "content": "x"}]
    error = (openai.OpenAIError, anthropic.AnthropicError)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(half) as rollout:
        async with rollout.client(dialect) as client:
            with pytest.raises(error, match="overloaded"):
                if dialect == "openai_chat":
                    chunks = await client.chat.completions.create(model="m", messages=messages, stream=True)
                    async for _ in chunks:
                        pass
                else:
                    async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                        await stream.get_final_message()


SYNC = """
    import json, sys

    user = [{"role": "user", "content": "x"}]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}

    def use_openai(client, openai):
        create = client.chat.completions.create
        print(create(model="m", messages=user).choices[0].message.content)
        chunks = create(model="m", messages=user, stream=True)
        print("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
        message = create(model="m", messages=user, tools=tools).choices[0].message
        (call,) = message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": json.loads(call.function.arguments)["city"]}
        print(create(model="m", messages=[*user, message, result], tools=tools).choices[0].message.content)
        return lambda: create(model="m", messages=user)

    def use_anthropic(client, anthropic):
        ask = dict(model="m", max_tokens=9)
        print(client.messages.create(messages=user, **ask).content[0].text)
        with client.messages.stream(messages=user, **ask) as stream:
            print("".join(stream.text_stream))
        tools = [{"name": "weather", "input_schema": schema}]
        message = client.messages.create(messages=user, tools=tools, **ask)
        (call,) = message.content
        result = {"type": "tool_result", "tool_use_id": call.id, "content": call.input["city"]}
        turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        print(client.messages.create(messages=[*user, *turns], tools=tools, **ask).content[0].text)
        return lambda: client.messages.create(messages=user, **ask)

    if sys.argv[1] == "openai_chat":
        import openai as sdk
        make, use = sdk.OpenAI, use_openai
    else:
        import anthropic as sdk
        make, use = sdk.Anthropic, use_anthropic
    with make() as client:
        again = use(client, sdk)
        for _ in range(int(sys.argv[2])):
            try:
                again()
            except sdk.APIStatusError as exc:
                print(exc.status_code)
"""


@pytest.mark.once
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
async def test_a_sync_client_in_a_process_of_its_own_is_an_agent_like_any_other(dialect: str) -> None:
    refusals = [
        Refusal(status, f"status {status}", retry_after=0.01)
        for status, requests in STATUSES
        for _ in range(requests)
    ]
    heard = ToolCall.of("weather", city="Oslo")
    script = ScriptedModel(
        ["whole", "in pieces", heard, lambda r: f"sun in {r.tool_results[0].text}", *refusals]
    )
    argv = [sys.executable, "-c", textwrap.dedent(SYNC), dialect, str(len(STATUSES))]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        result = await rollout.run_agent(argv)
    assert result.returncode == 0, result.stderr_text
    expected = ["whole", "in pieces", "sun in Oslo", *(str(status) for status, _ in STATUSES)]
    assert result.stdout_text.split() == " ".join(expected).split()
    assert script.remaining == 0, "as many requests of each status as the SDK makes"


def test_the_sync_clients_are_ready_made_too() -> None:
    async def main() -> None:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel(["hi"])) as rollout:
            client = rollout.client("openai_chat", sync=True)
            assert isinstance(client, openai.OpenAI)
            answer = await trio.to_thread.run_sync(
                lambda: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
            )
            assert answer.choices[0].message.content == "hi"
            client.close()
            assert isinstance(rollout.client("anthropic_messages", sync=True), anthropic.Anthropic)
            with pytest.raises(ValueError, match="no dialect"):
                rollout.client("klingon")

    trio.run(main)
