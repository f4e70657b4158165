"""What clients look for beside the answer: ids by prefix, the id of the call, a word about what is not here."""

import json
import re
from typing import Any

import httpx2
import pytest
from openai.types.responses import InputTokenCountResponse, ResponseSteerFailedEvent

from tests.asking import MESSAGES, PATHS, STREAM_PATHS, bearer, document, echo
from tests.server.test_websocket import dialled
from triocept import Exchange, Refusal, Response, Rollout, ToolCall, serve_endpoint
from triocept.types import Opaque

pytestmark = pytest.mark.usefixtures("every_way")

HEADERS = {
    "openai_chat": "x-request-id",
    "openai_completions": "x-request-id",
    "openai_responses": "x-request-id",
    "anthropic_messages": "request-id",
}
IDS = {
    "openai_chat": r'"id":"chatcmpl-[0-9a-f]{24}"',
    "openai_completions": r'"id":"cmpl-[0-9a-f]{24}"',
    "openai_responses": r'"id":"resp_[0-9a-f]{24}"',
    "anthropic_messages": r'"id":"msg_[0-9a-f]{24}"',
    "gemini": r'"responseId":"[0-9a-f]{24}"',
}
CALL_IDS = {
    "openai_chat": r'"id":"call_[0-9a-f]{24}"',
    "openai_responses": r'"call_id":"call_[0-9a-f]{24}"',
    "anthropic_messages": r'"id":"toolu_[0-9a-f]{24}"',
    "gemini": r'"id":"call_[0-9a-f]{24}"',
}


async def post(rollout: Rollout, path: str, body: Any = None, **headers: str) -> httpx2.Response:
    url = rollout.base_url("openai_chat").removesuffix("/v1") + path
    async with httpx2.AsyncClient(timeout=None) as client:
        return await client.post(url, json=body or {}, headers=headers or bearer(rollout))


async def call(rollout: Rollout, dialect: str, *, stream: bool = False) -> httpx2.Response:
    path = (STREAM_PATHS if stream else PATHS)[dialect]
    return await post(rollout, path, document(dialect, stream=stream))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", IDS)  # Ollama's wire has no place for an id
async def test_an_answer_has_the_ids_that_its_peers_look_for_and_given_ones_stay(
    dialect: str, stream: bool
) -> None:
    calls = dialect != "openai_completions"
    answers = [
        Response.of(ToolCall.of("t") if calls else "x"),
        Response((ToolCall("t", id="mine"),) if calls else (), id="of_mine"),
    ]

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(answers.pop(0))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        made = (await call(rollout, dialect, stream=stream)).text
        given = (await call(rollout, dialect, stream=stream)).text
    assert re.search(IDS[dialect], made)
    assert '"of_mine"' in given
    response = rollout.trace[0].response
    assert f'"{response.id}"' in made
    if calls:
        assert re.search(CALL_IDS[dialect], made)
        assert '"mine"' in given
        assert f'"{response.tool_calls[0].id}"' in made


@pytest.mark.parametrize("dialect", HEADERS)
async def test_every_answer_and_refusal_has_the_id_of_its_call(dialect: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(rollout.trace) > 1:
            raise Refusal(429, "wait")
        await exchange.respond("x")

    name = HEADERS[dialect]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        answers = [
            await call(rollout, dialect),
            await call(rollout, dialect, stream=True),
            await call(rollout, dialect),
            await call(rollout, dialect, stream=True),
        ]
        no_key = await post(rollout, PATHS[dialect], document(dialect), authorization="Bearer wrong")
        no_json = await post(rollout, PATHS[dialect], [])
        no_path = await post(rollout, f"{PATHS[dialect]}/nothing")
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    said = [answer.headers[name] for answer in answers]
    assert said == [f"req_{turn.id[2:]}" for turn in rollout.trace]
    errors = [*answers[2:], no_key, no_json, no_path]
    assert len({error.headers[name] for error in errors}) == len(errors)
    if dialect == "anthropic_messages":
        assert [error.json()["request_id"] for error in errors] == [error.headers[name] for error in errors]


@pytest.mark.parametrize("dialect", HEADERS)
async def test_an_answer_in_pieces_has_the_id_of_its_call_and_so_has_the_error_that_it_breaks_with(
    dialect: str,
) -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(429, "wait")

    text = b""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        url = rollout.base_url("openai_chat").removesuffix("/v1") + STREAM_PATHS[dialect]
        async with httpx2.AsyncClient(headers=bearer(rollout), timeout=None) as client:
            asked = document(dialect, stream=True)
            async with client.stream("POST", url, json=asked) as answer:
                with pytest.raises(httpx2.RemoteProtocolError):
                    async for piece in answer.aiter_raw():
                        text += piece
    identity = f"req_{rollout.trace[0].id[2:]}"
    assert answer.headers[HEADERS[dialect]] == identity
    if dialect == "anthropic_messages":
        assert f'"request_id":"{identity}"'.encode() in text


async def test_the_other_routes_have_the_id_of_the_call_too() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            openai = await client.get(f"{endpoint.url}/v1/models")
            anthropic = await client.get(
                f"{endpoint.url}/v1/models", headers={"anthropic-version": "2023-06-01"}
            )
    assert openai.headers["x-request-id"].startswith("req_")
    assert anthropic.headers["request-id"].startswith("req_")


async def test_chunks_of_chat_have_logprobs_that_are_null() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        text = (await call(rollout, "openai_chat", stream=True)).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert chunks
    assert all(choice["logprobs"] is None for chunk in chunks for choice in chunk["choices"])


async def test_a_provider_s_own_call_that_is_given_whole_has_its_input_in_a_delta() -> None:
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(Response.of(Opaque("anthropic_messages", block), "found"))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        text = (await call(rollout, "anthropic_messages", stream=True)).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    begun = next(event for event in events if event["type"] == "content_block_start")
    deltas = [event["delta"] for event in events if event.get("index") == 0 and "delta" in event]
    assert begun["content_block"] == {**block, "input": {}}
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"query":"x"}'}]


@pytest.mark.parametrize("arguments", ['{"a": 1', "[1]", "ls -l", '"text"', '{"a": 1}', ""])
async def test_arguments_that_are_no_object_are_the_same_whole_and_streamed(arguments: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(ToolCall("t", arguments))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        whole = (await call(rollout, "anthropic_messages")).json()["content"][0]["input"]
        text = (await call(rollout, "anthropic_messages", stream=True)).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    told = "".join(event["delta"].get("partial_json", "") for event in events if "delta" in event)
    assert json.loads(told) == whole
    assert whole == ({"a": 1} if arguments == '{"a": 1}' else {"_raw": arguments} if arguments else {})
    assert all(turn.response and turn.response.tool_calls[0].arguments == arguments for turn in rollout.trace)


@pytest.mark.parametrize(("dialect", "more", "place"), [
    ("openai_chat", {"response_format": {"type": "sound"}}, "response_format.type"),
    ("openai_responses", {"text": {"format": {"type": "sound"}}}, "text.format.type"),
])  # fmt: skip
async def test_a_format_that_no_server_has_is_refused_with_its_place(
    dialect: str, more: Any, place: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        answer = await post(rollout, PATHS[dialect], document(dialect) | more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == place
    assert "unknown format 'sound'; the formats are text, json_object, json_schema" in answer.text


async def test_input_tokens_are_counted_and_a_compaction_is_refused_for_good() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        body = {"model": "m", "input": "x" * 400, "instructions": "be terse"}
        counted = await post(rollout, "/v1/responses/input_tokens", body)
        compacted = await post(rollout, "/v1/responses/compact", body)
        unknown = [
            await post(rollout, f"/v1/responses/{path}", body, authorization="Bearer wrong")
            for path in ("input_tokens", "compact")
        ]
    assert InputTokenCountResponse.model_validate(counted.json(), strict=True).input_tokens >= 100
    assert (compacted.status_code, compacted.headers["x-should-retry"]) == (404, "false")
    assert "summarised by a model call" in compacted.json()["error"]["message"]
    assert [answer.status_code for answer in unknown] == [401, 401]
    assert len(rollout.trace) == 0


async def test_steering_is_told_that_it_failed_and_the_socket_goes_on() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with dialled(rollout) as agent:
            await agent.send({"type": "response.steer", "previous_response_id": "resp_1", "input": "go left"})
            failed = ResponseSteerFailedEvent.model_validate(await agent.next())
            frames = await agent.ask("hi")
    assert failed.error.code == "steering_not_supported"
    assert (failed.steer.previous_response_id, failed.steer.input) == ("resp_1", "go left")
    assert frames[-1]["type"] == "response.completed"


@pytest.mark.parametrize(("path", "words"), [
    ("/v1/v1/chat/completions", "no path /v1/v1/chat/completions: this client adds /v1 to its base URL itself"),
    (f"/v1{MESSAGES}", "this client adds /v1 to its base URL itself"),
    ("/v1/v1", "this client adds /v1 to its base URL itself"),
])  # fmt: skip
async def test_a_path_that_is_not_here_says_why_where_that_is_known(path: str, words: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        answer = await post(rollout, path)
    assert answer.status_code == 404
    assert words in answer.json()["error"]["message"]
    assert "model_not_found" not in answer.text


async def test_a_key_is_found_wherever_clients_put_it() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for headers in (
            {"authorization": f"bearer {rollout.api_key}"},
            {"authorization": rollout.api_key},
            {"api-key": rollout.api_key},
            {"x-api-key": rollout.api_key},
            {"x-goog-api-key": rollout.api_key},
            {"authorization": "Basic eDp5", "api-key": rollout.api_key},
        ):
            answer = await post(rollout, PATHS["openai_chat"], document("openai_chat"), **headers)
            assert answer.status_code == 200, headers
    assert len(rollout.trace) == 6


@pytest.mark.parametrize(("headers", "words"), [
    ({"x": "y"}, "no API key: send the key of rollout"),
    ({"authorization": "Basic secret"}, "(the header 'Authorization' was sent, but its scheme is not Bearer)"),
    ({"authorization": "Bearer"}, "('Authorization: Bearer' was sent without a key after it)"),
    ({"authorization": "secret"}, "this API key is not valid for"),
    ({"api-key": "secret"}, "this API key is not valid for"),
])  # fmt: skip
async def test_what_stands_in_the_place_of_a_key_is_named_and_never_shown(
    headers: dict[str, str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        answer = await post(rollout, PATHS["openai_chat"], document("openai_chat"), **headers)
    assert answer.status_code == 401
    assert words in answer.json()["error"]["message"]
    assert "secret" not in answer.text + caplog.text


KEYED = [
    "authorization", "x-api-key", "x-goog-api-key", "api-key", "proxy-authorization", "cookie",
    "x-of-another-dialect",
]  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
async def test_an_exchange_does_not_show_a_header_that_may_hold_a_key(name: str) -> None:
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.headers[name])
        await exchange.respond("x")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        headers = bearer(rollout) | {name: f"Bearer {rollout.api_key}" if "auth" in name else rollout.api_key}
        await post(rollout, PATHS["openai_chat"], document("openai_chat"), **headers)
    assert seen == ["[redacted]"]
