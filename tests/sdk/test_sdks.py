"""The official Python SDKs, as users run them: async under trio in this process, and sync in one of their own."""

import sys
import textwrap
from functools import partial
from typing import Any

import anthropic
import openai
import pytest

from triocept import Exchange, Refusal, Rollout, ToolCall, serve_endpoint
from triocept.handlers import ScriptedModel

# The SDKs leave their async generators where a stream ends or fails; trio warns, and closes them.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(openai|anthropic|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
)


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
