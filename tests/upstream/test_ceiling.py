"""How many tokens an answer may have at most: said by the program, or learned from what the provider refuses."""

import json
from typing import Any

import pytest
import trio

from triocept import Message as Said
from triocept import Request, Text, UpstreamError, open_upstream
from triocept._upstream import ceiling
from triocept._upstream.ceiling import Ceiling, asked_output, capped
from triocept.dialects import DIALECTS
from triocept.errors import ContextLengthError

from .conftest import base_of, staged
from .provider import (
    ALL,
    CHAT,
    COMPLETIONS,
    GEMINI,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    Answer,
    Asked,
    answers,
    body_of,
    says,
    serve_provider,
    whole,
)

ASKS: dict[str, dict[str, Any]] = {
    CHAT: {"max_tokens": 64_000},
    COMPLETIONS: {"max_tokens": 64_000},
    RESPONSES: {"max_output_tokens": 64_000},
    MESSAGES: {"max_tokens": 64_000},
    GEMINI: {"generationConfig": {"maxOutputTokens": 64_000, "topK": 3}},
    OLLAMA: {"options": {"num_predict": 64_000, "top_k": 3}},
}
WINDOW = 32_768


def refusing(dialect: str, words: str, *, most: int) -> Answer:
    """A provider that refuses to be asked for more than `most` tokens."""
    answer = answers(dialect)

    async def refuse(asked: Asked, stream: trio.SocketStream) -> None:
        number = asked_output(asked.document, DIALECTS[dialect].caps)
        if number is not None and number > most:
            document = {
                "error": {"message": words.format(asked=number), "type": "BadRequestError", "code": 400}
            }
            await stream.send_all(whole(json.dumps(document).encode(), 400))
        else:
            await answer(asked, stream)

    return refuse


@pytest.mark.parametrize("dialect", ALL)
async def test_a_number_that_is_refused_is_asked_for_once(dialect: str) -> None:
    provider = refusing(
        dialect, "max_tokens={asked} cannot be greater than max_model_len=max_total_tokens=32768", most=WINDOW
    )
    async with staged(provider, dialect) as stage:
        for _ in range(2):
            assert (await stage.ask(dialect, **ASKS[dialect])).status_code == 200
    numbers = [asked_output(asked.document, DIALECTS[dialect].caps) or 0 for asked in stage.provider.asked]
    assert numbers[0] == 64_000
    assert len(numbers) == 3
    assert all(1024 < number <= WINDOW for number in numbers[1:])
    if dialect == GEMINI:
        assert stage.provider.asked[-1].document["generationConfig"]["topK"] == 3


async def test_our_own_number_for_messages_is_lowered_too() -> None:
    provider = refusing(MESSAGES, "max_tokens: {asked} > 8192, which is the maximum allowed", most=8192)
    async with staged(provider, MESSAGES) as stage:
        assert (await stage.ask(CHAT, stream=True)).status_code == 200
    assert [asked.document["max_tokens"] for asked in stage.provider.asked] == [64_000, 8192]


@pytest.mark.parametrize(("words", "room"), [
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum context length is"
        " 32768 tokens and your request has 768 input tokens (64000 > 32768 - 768).",
        32_000,
    ),
    (
        "This model's maximum context length is 32768 tokens. However, you requested 64768 tokens (768 in the"
        " messages, 64000 in the completion). Please reduce the length of the messages or completion.",
        32_000,
    ),
    (
        "Requested token count exceeds the model's maximum context length of 32768 tokens. You requested a total"
        " of 64768 tokens: 768 tokens from the input messages and 64000 tokens for the completion.",
        32_000,
    ),
    ("input length and `max_tokens` exceed context limit: 768 + 64000 > 32768, decrease", 32_000),
    (
        "max_tokens is too large: 64000. This model supports at most 16384 completion tokens, whereas you"
        " provided 64000.",
        16_384,
    ),
    ("max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for claude", 8192),
    ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
    ("`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens`", 8192),
    ("the supported range is from 1 (inclusive) to 8193 (exclusive).", 8192),
    ("This model's maximum context length is 32768 tokens and your request has 32700 input tokens", None),
    ("maximum context length is 8192 tokens, however you requested 9000", None),
    ("Invalid temperature", None),
])  # fmt: skip
def test_what_providers_say_of_it_is_understood(words: str, room: int | None) -> None:
    ceiling = Ceiling(None)
    assert ceiling.learn("m", words, prompt=10) == room
    assert "another" not in {*ceiling.outputs, *ceiling.windows}


def test_of_long_words_no_more_is_looked_at_than_a_refusal_has() -> None:
    learned = Ceiling(None)
    assert learned.learn("m", f"{'x' * ceiling.MAX_WORDS} max_tokens is [1, 5]", prompt=10) is None
    assert learned.learn("m", f"{'x' * 1_000} max_tokens is [1, 5]", prompt=10) == 5


async def test_a_window_that_the_prompt_fills_is_told_to_the_agent() -> None:
    words = (
        "'max_tokens' is too large: {asked}. This model's maximum context length is 32768 tokens and your request"
        " has 32000 input tokens"
    )
    async with staged(refusing(MESSAGES, words, most=768), MESSAGES) as stage:
        told = await stage.ask(CHAT)
    assert told.status_code == 400
    assert told.json()["error"]["code"] == "context_length_exceeded"
    assert len(stage.provider.asked) == 1


@pytest.mark.parametrize("dialect", ALL)
async def test_a_ceiling_that_is_said_holds_for_every_call(dialect: str) -> None:
    with trio.fail_after(30):
        async with staged(answers(dialect), dialect, max_output_tokens=1000) as stage:
            await stage.ask(dialect, **ASKS[dialect])
            await stage.ask(
                dialect, **({"max_tokens": 7} if dialect in (CHAT, COMPLETIONS, MESSAGES) else {})
            )
            await stage.upstream.fetch(
                Request(dialect="", model="m", messages=(Said("user", (Text("hi"),)),))
            )
    numbers = [asked_output(asked.document, DIALECTS[dialect].caps) for asked in stage.provider.asked]
    assert numbers == [1000, 7 if dialect in (CHAT, COMPLETIONS, MESSAGES) else 1000, 1000]


def test_thinking_stays_under_the_ceiling() -> None:
    document = {
        **body_of(MESSAGES),
        "max_tokens": 64_000,
        "thinking": {"type": "enabled", "budget_tokens": 32_000},
    }
    assert capped(document, DIALECTS[MESSAGES].caps, 8000, always=False)["thinking"]["budget_tokens"] == 4000
    assert "thinking" not in capped(document, DIALECTS[MESSAGES].caps, 1000, always=False)
    assert capped(document, DIALECTS[MESSAGES].caps, 40_000, always=False)["thinking"] == document["thinking"]


async def test_a_provider_that_refuses_every_number_is_not_asked_for_ever() -> None:
    with trio.fail_after(30):
        async with staged(refusing(CHAT, "max_tokens is [1, 5]", most=1), CHAT) as stage:
            assert (await stage.ask(CHAT, **ASKS[CHAT])).status_code == 400
    assert len(stage.provider.asked) == 2


async def test_a_ceiling_is_a_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="max_output_tokens must be 1 or more, not 0"):
        async with open_upstream("http://127.0.0.1:1", dialect=CHAT, max_output_tokens=0):
            raise AssertionError("it was opened")


@pytest.mark.parametrize(
    "body", [b'{"detail":"Not Found"}', b"<html>not here</html>", b'{"error":{"message":"Not Found"}}']
)
async def test_an_error_of_a_wrong_base_url_says_what_was_asked(body: bytes) -> None:
    request = Request(dialect="", model="m", messages=(Said("user", (Text("hi"),)),))
    async with serve_provider(says(whole(body, 404))) as provider:
        base = base_of(provider.url, CHAT) + "/v1?key=hidden"
        async with open_upstream(base, dialect=CHAT) as upstream:
            with pytest.raises(UpstreamError) as caught:
                await upstream.fetch(request)
    assert f"{provider.url}/v1/v1/chat/completions" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert not isinstance(caught.value, ContextLengthError)


async def test_a_provider_that_refuses_each_number_that_it_named_is_asked_three_times_more() -> None:
    async def refuse(asked: Asked, stream: trio.SocketStream) -> None:
        most = (asked_output(asked.document, DIALECTS[CHAT].caps) or 0) - 1
        document = {"error": {"message": f"max_tokens is [1, {most}]", "code": 400}}
        await stream.send_all(whole(json.dumps(document).encode(), 400))

    with trio.fail_after(30):
        async with staged(refuse, CHAT) as stage:
            assert (await stage.ask(CHAT, **ASKS[CHAT])).status_code == 400
    numbers = [asked_output(asked.document, DIALECTS[CHAT].caps) for asked in stage.provider.asked]
    assert numbers == [64_000, 63_999, 63_998, 63_997]


async def test_a_failure_of_another_kind_teaches_nothing_whatever_it_says() -> None:
    async def fail(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(whole(b'{"error": {"message": "max_tokens is [1, 5]"}}', 503))

    async with staged(fail, CHAT) as stage:
        assert (await stage.ask(CHAT, **ASKS[CHAT])).status_code == 503
    assert len(stage.provider.asked) == 1


def test_names_that_an_agent_makes_up_fill_no_memory() -> None:
    learned = Ceiling(None)
    for number in range(1_000):
        learned.learn(f"model {number}", "max_tokens is [1, 5]", prompt=10)
    assert len(learned.outputs) <= ceiling.MAX_MODELS
    assert learned.of("model 999", 10) == 5
