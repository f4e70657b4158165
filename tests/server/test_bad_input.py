"""Whatever is wrong with a request is an error in the dialect's own shape, logged once, and disturbs nobody."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import ask, ask_body, bearer, echo, url_of
from triocept import Rollout, serve_endpoint

pytestmark = pytest.mark.usefixtures("both_ways")

USER = {"role": "user", "content": "hi"}
BAD_BODIES: dict[str, tuple[str, Any, str]] = {
    "not JSON": ("both", b"{", "not valid JSON"),
    "not UTF-8": ("both", b'"\xff\xfe"', "not valid"),
    "nothing": ("both", b"", "not valid JSON"),
    "a list": ("both", [], "object"),
    "no messages": ("both", {"model": "m", "max_tokens": 1}, "messages"),
    "messages that are no list": ("both", ask_body() | {"messages": "hi"}, "messages"),
    "a message that is no object": ("both", ask_body() | {"messages": [USER, 3]}, "messages[1]"),
    "an unknown role": (
        "both",
        ask_body() | {"messages": [{"role": "king", "content": "x"}]},
        "messages[0].role",
    ),
    "a content of numbers": (
        "both",
        ask_body() | {"messages": [{"role": "user", "content": 5}]},
        "messages[0].content",
    ),
    "a block without a type": (
        "both",
        ask_body() | {"messages": [USER, USER, USER, {"role": "user", "content": [{"type": 7}]}]},
        "messages[3].content[0].type",
    ),
    "a model that is a number": ("both", ask_body() | {"model": 4}, "model"),
    "a stream that is a word": ("both", ask_body() | {"stream": "yes"}, "stream"),
    "two choices": ("openai_chat", ask_body(n=2), "n"),
}


def cases() -> list[Any]:
    return [
        pytest.param(dialect, body, place, id=f"{name}, {dialect}")
        for name, (which, body, place) in BAD_BODIES.items()
        for dialect in ("openai_chat", "anthropic_messages")
        if which in ("both", dialect)
    ]


def assert_shape(dialect: str, document: Any) -> str:
    """The document is an error of its dialect; its message."""
    if dialect == "anthropic_messages":
        assert document["type"] == "error"
        assert isinstance(document["error"]["type"], str)
    else:
        assert set(document["error"]) >= {"message", "type", "param", "code"}
    message = document["error"]["message"]
    assert isinstance(message, str)
    return message


async def post(rollout: Rollout, dialect: str, body: Any, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx2.AsyncClient(timeout=None) as client:
        return await client.post(
            url_of(rollout, dialect),
            content=content,
            headers={**bearer(rollout), "content-type": "application/json", **headers},
        )


@pytest.mark.parametrize(("dialect", "body", "place"), cases())
async def test_a_bad_body_is_a_400_that_names_the_place(
    dialect: str, body: Any, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "triocept")
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            reply = await post(rollout, dialect, body)
            assert reply.status_code == 400
            assert place in assert_shape(dialect, reply.json())
            assert reply.headers["x-should-retry"] == "false"
            assert (await ask(rollout, dialect=dialect)).status_code == 200
        assert len(rollout.trace) == 1
    assert len([record for record in caplog.records if record.name.startswith("triocept")]) == 1
    assert rollout.api_key not in caplog.text


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
async def test_each_other_fault_has_its_status_in_the_dialects_shape(dialect: str) -> None:
    with trio.fail_after(10):
        async with serve_endpoint(max_body=2000) as endpoint:
            async with endpoint.open_rollout(echo) as rollout, endpoint.open_rollout(echo) as other:
                async with httpx2.AsyncClient(timeout=None) as client:
                    url = url_of(rollout, dialect)
                    too_large = await post(rollout, dialect, ask_body("x" * 3000))
                    wrong_method = await client.get(url, headers=bearer(rollout))
                    wrong_key = await client.post(url, json=ask_body(), headers={"x-api-key": "sk-none"})
                    no_key = await client.post(url, json=ask_body())
                    others_key = await client.post(url, json=ask_body(), headers=bearer(other))
                    unknown = await client.post(
                        f"{url}/and/more",
                        json=ask_body(),
                        headers=bearer(rollout) | {"anthropic-version": "1"},
                    )
                    unknown_rollout = await client.post(
                        url.replace(rollout.id, "r_none"), json=ask_body(), headers=bearer(rollout)
                    )
                replies = (too_large, wrong_method, wrong_key, no_key, others_key, unknown_rollout)
                for reply in replies:
                    assert_shape(dialect, reply.json())
                assert [reply.status_code for reply in replies] == [413, 405, 401, 401, 401, 401]
                assert wrong_method.headers["allow"] == "POST"
                assert unknown.status_code == 404
                assert_shape("anthropic_messages", unknown.json())
                assert (await ask(rollout, dialect=dialect)).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "x-goog-api-key"])
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
@pytest.mark.parametrize("prefix", [True, False])
async def test_the_key_is_read_from_every_header_on_every_route(
    header: str, dialect: str, prefix: bool
) -> None:
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            url = url_of(rollout, dialect)
            if not prefix:
                url = url.replace(f"/rollout/{rollout.id}", "")
            value = f"Bearer {rollout.api_key}" if header == "authorization" else rollout.api_key
            async with httpx2.AsyncClient() as client:
                reply = await client.post(f"{url}?beta=true", json=ask_body(), headers={header: value})
                without_v1 = await client.post(
                    url.replace("/v1/", "/"), json=ask_body(), headers={header: value}
                )
            assert (reply.status_code, without_v1.status_code) == (200, 200)


async def test_what_clients_ask_beside_the_model_is_answered() -> None:
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, model="my-model") as rollout:
            base = f"{endpoint.url}/rollout/{rollout.id}"
            async with httpx2.AsyncClient() as client:
                health = await client.get(f"{endpoint.url}/health")
                head = await client.head(f"{base}/", headers={"x-api-key": "x"})
                bare_head = await client.head(base)
                hello = await client.head(f"{base}/api/hello")
                models = await client.get(f"{base}/v1/models", headers=bearer(rollout))
                theirs = await client.get(
                    f"{base}/v1/models", headers=bearer(rollout) | {"anthropic-version": "2023-06-01"}
                )
                no_key = await client.get(f"{base}/v1/models")
                tokens = await client.post(
                    f"{base}/v1/messages/count_tokens?beta=true",
                    json={"model": "m", "messages": [USER]},
                    headers=bearer(rollout),
                )
                bad_tokens = await client.post(
                    f"{base}/v1/messages/count_tokens",
                    json={"model": "m", "messages": 1},
                    headers=bearer(rollout),
                )
                post = await client.post(f"{endpoint.url}/health")
                nowhere = await client.get(f"{endpoint.url}/nowhere")
    assert [health.status_code, head.status_code, bare_head.status_code, hello.status_code] == [200] * 4
    assert health.json() == {"status": "ok", "rollouts": 1, "endpoint": endpoint.id}
    assert models.json()["data"][0]["id"] == "my-model"
    assert theirs.json()["data"][0]["type"] == "model"
    assert no_key.status_code == 401
    assert tokens.json()["input_tokens"] >= 1
    assert bad_tokens.status_code == 400
    assert assert_shape("anthropic_messages", bad_tokens.json()).startswith("messages")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert nowhere.status_code == 404
    assert_shape("openai_chat", nowhere.json())
