import asyncio
import re

import pytest
from openai import AsyncOpenAI, OpenAI
from triocept import Refusal, ToolCall
from triocept.testing import SyncExchange, containing, fake_model


def greet() -> str:  # the application, which knows nothing of triocept
    client = OpenAI()
    messages = [
        {"role": "system", "content": "be terse"},
        {"role": "user", "content": "say hello"},
    ]
    answer = client.chat.completions.create(model="gpt-5", messages=messages)
    return answer.choices[0].message.content or ""


async def greet_async() -> str:
    async with AsyncOpenAI() as client:
        messages = [{"role": "user", "content": "say hello"}]
        answer = await client.chat.completions.create(model="gpt-5", messages=messages)
    return answer.choices[0].message.content or ""


def test_it_greets() -> None:
    with fake_model("hello") as model:
        assert greet() == "hello"
    assert model.calls[0].model == "gpt-5"


def test_it_tries_again_when_it_is_told_to_wait() -> None:
    with fake_model(Refusal(429, "too many", retry_after=0.1), "hello") as model:
        assert greet() == "hello"
    assert [turn.outcome for turn in model.trace] == ["refused", "answered"]


def test_it_asks_for_short_answers() -> None:
    with fake_model("hello") as model:
        greet()
    model.assert_messages(
        ("system", containing("terse")), ("user", re.compile("hello"))
    )


def test_it_greets_from_asyncio() -> None:
    with fake_model("hello"):
        assert asyncio.run(greet_async()) == "hello"


def test_it_greets_whoever_asks() -> None:
    def answer(
        exchange: SyncExchange,
    ) -> None:  # a plain function may block: it runs in a thread of its own
        with exchange.open_stream() as stream:
            stream.send("hel")
            stream.send("lo")

    with fake_model(handler=answer):
        assert greet() == "hello"


def test_what_it_does_not_ask_for_is_left() -> None:
    with pytest.raises(AssertionError, match="was not used"):
        with fake_model("hello", ToolCall.of("search", q="hello")):
            greet()
