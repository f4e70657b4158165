"""Whatever is wrong with a request is an error in the dialect's own shape, logged once, and disturbs nobody."""

import json
import logging
from typing import Any

import httpx2
import pytest

from tests.asking import ask_body, bearer, document, echo, url_of
from triocept import Rollout, serve_endpoint
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.usefixtures("every_way")

USER = {"role": "user", "content": "hi"}
BAD_ANYWHERE: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not valid JSON"),
    "not UTF-8": (b'"\xff\xfe"', "not valid"),
    "nothing": (b"", "not valid JSON"),
    "a list": ([], "object"),
}
BAD_BODIES: dict[str, dict[str, tuple[Any, str]]] = {
    "openai_chat": {"two choices": (ask_body(n=2), "n")},
    "anthropic_messages": {"no max_tokens": ({"model": "m", "messages": [USER]}, "max_tokens")},
    "openai_responses": {"no input": ({"model": "m"}, "input"), "no model": ({"input": "hi"}, "model"),
     "an input that is a number": ({"model": "m", "input": 5}, "input"),
     "an item that is no object": ({"model": "m", "input": [3]}, "input[0]"),
     "an unknown role": ({"model": "m", "input": [{"role": "king", "content": "x"}]}, "input[0].role"),
     "a part without a type": ({"model": "m", "input": [{"role": "user", "content": [{"text": "x"}]}]},
      "input[0].content[0].type"),
     "a call without a name": ({"model": "m", "input": [{"type": "function_call"}]}, "input[0].name"),
     "a tool that is no object": ({"model": "m", "input": "x", "tools": [1]}, "tools[0]"),
     "a stream that is a word": ({"model": "m", "input": "x", "stream": "yes"}, "stream"),
     "an earlier response that is none": ({"model": "m", "input": "x", "previous_response_id": "resp_none"},
      "resp_none")},
    "openai_completions": {"no prompt": ({"model": "m"}, "prompt"), "no model": ({"prompt": "x"}, "model"),
     "a prompt that is an object": ({"model": "m", "prompt": {}}, "prompt"),
     "a prompt of texts and numbers": ({"model": "m", "prompt": ["a", 1]}, "prompt[1]"),
     "two answers": ({"model": "m", "prompt": "x", "n": 2}, "n"),
     "a suffix that is a number": ({"model": "m", "prompt": "x", "suffix": 1}, "suffix"),
     "a stream that is a word": ({"model": "m", "prompt": "x", "stream": "yes"}, "stream")},
    "gemini": {"no contents": ({}, "contents"), "contents that are a number": ({"contents": 5}, "contents"),
     "a content that is no object": ({"contents": [3]}, "contents[0]"),
     "an unknown role": ({"contents": [{"role": "king", "parts": [{"text": "x"}]}]}, "contents[0].role"),
     "parts that are a text": ({"contents": [{"parts": "x"}]}, "contents[0].parts"),
     "a part that is no object": ({"contents": [{"parts": [1]}]}, "contents[0].parts[0]"),
     "a text that is a number": ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
     "a call without a name": ({"contents": [{"role": "model", "parts": [{"functionCall": {}}]}]},
      "contents[0].parts[0].functionCall.name"),
     "two candidates": ({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"candidateCount": 2}},
      "generationConfig.candidateCount")},
}  # fmt: skip
BAD_BODIES["ollama"] = {
    "no messages": ({"model": "m"}, "messages"),
    "an empty conversation": ({"model": "m", "messages": []}, "messages"),
    "an unknown role": ({"model": "m", "messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    "a list for content": ({"model": "m", "messages": [{"role": "user", "content": []}]},
     "messages[0].content"),
    "an image that is no text": ({"model": "m", "messages": [{"role": "user", "images": [1]}]},
     "messages[0].images[0]"),
    "a cap that is a word": (ask_body() | {"options": {"num_predict": "x"}}, "options.num_predict"),
}  # fmt: skip
for _name in ("openai_chat", "anthropic_messages"):
    BAD_BODIES[_name] |= {
        "no messages": ({"model": "m", "max_tokens": 1}, "messages"),
        "messages that are no list": (ask_body() | {"messages": "hi"}, "messages"),
        "a message that is no object": (ask_body() | {"messages": [USER, 3]}, "messages[1]"),
        "an unknown role": (
            ask_body() | {"messages": [{"role": "king", "content": "x"}]},
            "messages[0].role",
        ),
        "a content of numbers": (
            ask_body() | {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
        ),
        "a block without a type": (
            ask_body() | {"messages": [USER, USER, USER, {"role": "user", "content": [{"type": 7}]}]},
            "messages[3].content[0].type",
        ),
        "a model that is a number": (ask_body() | {"model": 4}, "model"),
        "a stream that is a word": (ask_body() | {"stream": "yes"}, "stream"),
    }


def cases() -> list[Any]:
    return [
        pytest.param(dialect, body, place, id=f"{name}, {dialect}")
        for dialect in DIALECTS
        for name, (body, place) in {**BAD_ANYWHERE, **BAD_BODIES[dialect]}.items()
    ]


every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def assert_shape(dialect: str, document: Any) -> str:
    """The document is an error of its dialect; its message."""
    if dialect == "ollama":
        assert isinstance(document["error"], str)
        return document["error"]
    if dialect == "anthropic_messages":
        assert document["type"] == "error"
        assert isinstance(document["error"]["type"], str)
    elif dialect == "gemini":
        assert set(document["error"]) >= {"code", "message", "status"}
        assert isinstance(document["error"]["code"], int)
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
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        reply = await post(rollout, dialect, body)
        assert reply.status_code == 400
        assert place in assert_shape(dialect, reply.json())
        assert reply.headers["x-should-retry"] == "false"
        assert (await post(rollout, dialect, document(dialect))).status_code == 200
    assert len(rollout.trace) == 1
    assert len([record for record in caplog.records if record.name.startswith("triocept")]) == 1
    assert rollout.api_key not in caplog.text


@every_dialect
async def test_each_other_fault_has_its_status_in_the_dialects_shape(dialect: str) -> None:
    async with serve_endpoint(max_body=2000) as endpoint:
        async with endpoint.open_rollout(echo) as rollout, endpoint.open_rollout(echo) as other:
            async with httpx2.AsyncClient(timeout=None) as client:
                url, body = url_of(rollout, dialect), document(dialect)
                too_large = await post(rollout, dialect, document(dialect, "x" * 3000))
                wrong_method = await client.get(url, headers=bearer(rollout))
                wrong_key = await client.post(url, json=body, headers={"x-api-key": "sk-none"})
                no_key = await client.post(url, json=body)
                others_key = await client.post(url, json=body, headers=bearer(other))
                unknown = await client.post(
                    url.replace("/api" if dialect == "ollama" else "/v1", "/none", 1),
                    json=body,
                    headers=bearer(rollout) | {"anthropic-version": "1"},
                )
                unknown_rollout = await client.post(
                    url.replace(rollout.id, "r_none"), json=body, headers=bearer(rollout)
                )
            replies = (too_large, wrong_method, wrong_key, no_key, others_key, unknown_rollout)
            for reply in replies:
                assert_shape(dialect, reply.json())
            assert [reply.status_code for reply in replies] == [413, 405, 401, 401, 401, 401]
            assert wrong_method.headers["allow"] == "POST"
            assert unknown.status_code == 404
            assert_shape("anthropic_messages", unknown.json())
            assert (await post(rollout, dialect, body)).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "x-goog-api-key"])
@every_dialect
@pytest.mark.parametrize("prefix", [True, False])
async def test_the_key_is_read_from_every_header_on_every_route(
    header: str, dialect: str, prefix: bool
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        url = url_of(rollout, dialect)
        if not prefix:
            url = url.replace(f"/rollout/{rollout.id}", "")
        value = f"Bearer {rollout.api_key}" if header == "authorization" else rollout.api_key
        async with httpx2.AsyncClient() as client:
            reply = await client.post(f"{url}?beta=true", json=document(dialect), headers={header: value})
            without_v1 = await client.post(
                url.replace("/v1/", "/"), json=document(dialect), headers={header: value}
            )
        assert (reply.status_code, without_v1.status_code) == (200, 200)


async def test_what_clients_ask_beside_the_model_is_answered() -> None:
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
