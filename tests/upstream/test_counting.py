"""How many tokens a prompt has: the provider counts, where it can; else it is estimated."""

import json
from typing import Any

import httpx2
import pytest
import trio

from triocept import Message, Request, Text, Upstream
from triocept._upstream import counting as counter

from .conftest import Stage, staged
from .provider import CHAT, COMPLETIONS, GEMINI, MESSAGES, RESPONSES, Answer, Asked, body_of, whole

TOKENS = 1234
CALLS: dict[str, dict[str, Any]] = {
    "anthropic": {"/v1/messages/count_tokens": {"input_tokens": TOKENS}},
    "responses": {"/v1/responses/input_tokens": {"input_tokens": TOKENS}},
    "google": {"/v1beta/models/asked:countTokens": {"totalTokens": TOKENS}},
    "vllm": {"/tokenize": {"count": TOKENS, "max_model_len": 32_768}},
    "llama.cpp": {"/apply-template": {"prompt": "<hi>"}, "/tokenize": {"tokens": [1] * TOKENS}},
    "none": {},
}
DIALECTS_OF = {"anthropic": MESSAGES, "responses": RESPONSES, "google": GEMINI}


def counting(engine: str) -> Answer:
    """A server that has these calls, and no other."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        path = asked.target.partition("?")[0]
        found = CALLS[engine].get(path)
        if engine == "llama.cpp" and path == "/tokenize" and "content" not in asked.document:
            found = {"tokens": []}  # that is what it makes of messages
        if found is None:
            await stream.send_all(whole(b'{"detail":"Not Found"}', 404))
        else:
            assert "max_tokens" not in asked.document
            await stream.send_all(whole(json.dumps(found).encode()))

    return answer


async def count(stage: Stage, agent: str) -> int:
    """What an agent is told."""
    key = {"authorization": f"Bearer {stage.rollout.api_key}"}
    path = "/v1/messages/count_tokens" if agent == MESSAGES else "/v1beta/models/asked:countTokens"
    body = {name: value for name, value in body_of(agent).items() if name != "max_tokens"}
    async with httpx2.AsyncClient() as client:
        told = await client.post(stage.rollout.base_url(agent) + path, json=body, headers=key)
    (number,) = told.json().values()
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("agent", [MESSAGES, GEMINI])
@pytest.mark.parametrize("engine", ["anthropic", "responses", "google", "vllm", "llama.cpp"])
async def test_the_provider_counts(engine: str, agent: str) -> None:
    async with staged(counting(engine), DIALECTS_OF.get(engine, CHAT), model="asked") as stage:
        assert await count(stage, agent) == TOKENS


@pytest.mark.parametrize("dialect", [CHAT, MESSAGES, COMPLETIONS])
async def test_where_nobody_counts_it_is_estimated_and_asked_once(dialect: str) -> None:
    async with staged(counting("none"), dialect) as stage:
        assert 0 < await count(stage, MESSAGES) < 10
        asked = len(stage.provider.asked)
        assert 0 < await count(stage, MESSAGES) < 10
    assert len(stage.provider.asked) == asked <= 2


async def test_a_handler_of_ones_own_cannot_count() -> None:
    async def handler(exchange: object) -> None:
        raise AssertionError("nobody asks it")

    async with staged(counting("anthropic"), MESSAGES, handler=handler) as stage:
        assert 0 < await count(stage, MESSAGES) < 10
    assert stage.provider.asked == []


async def test_a_program_can_ask_too() -> None:
    request = Request(dialect="", model="m", messages=(Message("user", (Text("hi"),)),))
    async with staged(counting("vllm"), CHAT) as stage:
        upstream: Upstream = stage.upstream
        assert await upstream.count_input_tokens(request) == TOKENS


@pytest.mark.parametrize("how", ["hangs up", "says nothing", "says nonsense"])
async def test_a_count_that_fails_or_does_not_come_is_estimated(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "SECONDS", 5 if how != "says nothing" else 0.2)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        match how:
            case "hangs up":
                await stream.aclose()
            case "says nothing":
                await trio.sleep_forever()
            case _:
                await stream.send_all(whole(b"<html>"))

    async with staged(answer, MESSAGES) as stage:
        assert 0 < await count(stage, MESSAGES) < 10
        assert stage.provider.asked
