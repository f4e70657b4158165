"""Ollama's `/api/chat`: what it has that no other wire has. What all have to do is in `test_conformance`."""

import json
from typing import Any

import httpx2
import pytest

from triocept import (
    Exchange,
    Message,
    Request,
    Response,
    Rollout,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    open_upstream,
    serve_endpoint,
)
from triocept._canonical.content import Media
from triocept._canonical.events import events_of
from triocept._canonical.request import ReasoningAsk, ToolChoice
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.kit import error_of
from triocept.dialects.ollama import OLLAMA
from triocept.errors import ContextLengthError, DialectError, UpstreamError, UpstreamTruncated
from triocept.types import Reasoning, assemble

HI = {"role": "user", "content": "hi"}
LS = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}


def asked(*messages: Any, **fields: Any) -> Request:
    return OLLAMA.parse_request({"model": "m", "messages": list(messages or (HI,)), **fields})


def answered(message: Any, **fields: Any) -> Any:
    return {"model": "m", "created_at": "…", "message": message, "done": True, **fields}


def read(*documents: Any) -> Response:
    parser = OLLAMA.stream_parser()
    body = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
    return assemble([*parser.feed(body), *parser.close()])


# Requests


def test_an_answer_is_a_stream_unless_it_is_said_that_it_is_none() -> None:
    assert asked().stream
    assert asked(stream=True).stream
    assert not asked(stream=False).stream
    assert OLLAMA.render_request(asked(stream=False))["stream"] is False


def test_options_are_the_sampling_and_what_is_unknown_of_them_is_kept() -> None:
    options = {"num_predict": 9, "temperature": 0.5, "stop": ["x"], "num_ctx": 4096}
    request = asked(options=options, keep_alive="5m")
    assert (request.sampling.max_output_tokens, request.sampling.stop) == (9, ("x",))
    assert request.extra == {"options": {"num_ctx": 4096}, "keep_alive": "5m"}
    written = OLLAMA.render_request(request)
    assert (written["options"], written["keep_alive"]) == (options, "5m")


def test_a_num_predict_that_means_no_end_is_no_cap() -> None:
    request = asked(options={"num_predict": -1})
    assert request.sampling.max_output_tokens is None
    assert OLLAMA.render_request(request)["options"] == {"num_predict": -1}


@pytest.mark.parametrize(
    ("think", "effort"), [(True, "adaptive"), (False, "none"), ("high", "high"), ("max", "max")]
)
def test_think_is_a_flag_or_an_effort(think: Any, effort: str) -> None:
    assert asked(think=think).reasoning == ReasoningAsk(effort=effort)
    written = OLLAMA.render_request(asked(think=think))["think"]
    assert written == ("high" if think == "max" else think)


def test_a_wrong_think_is_an_error_at_its_place() -> None:
    with pytest.raises(DialectError, match="think: must be a boolean or a string, not a number"):
        asked(think=3)


@pytest.mark.parametrize("shape", ["json", {"type": "object", "properties": {}}])
def test_the_format_is_a_word_or_a_schema(shape: Any) -> None:
    assert OLLAMA.render_request(asked(format=shape))["format"] == shape


def test_images_are_base64_beside_the_text() -> None:
    request = asked({"role": "user", "content": "see", "images": ["iVBORw0K"]})
    assert request.messages[0].content == (Text("see"), Media(kind="image", data="iVBORw0K"))
    assert OLLAMA.render_request(request)["messages"][0]["images"] == ["iVBORw0K"]


def test_what_is_no_image_that_is_here_is_said_not_to_be_shown() -> None:
    shown = (Media(kind="image", url="https://example.org/a"), Media(kind="file", data="eA==", name="a.txt"))
    request = Request(dialect="openai_chat", model="m", messages=(Message("user", shown),))
    (message,) = OLLAMA.render_request(request)["messages"]
    assert message == {"role": "user", "content": "[image: https://example.org/a][file: a.txt]"}


@pytest.mark.parametrize("named", [{}, {"tool_name": "b"}], ids=["in order", "by name"])
def test_a_result_without_an_id_belongs_to_a_call(named: Any) -> None:
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b")]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    request = asked(HI, said, {"role": "tool", "content": "1", **named}, {"role": "tool", "content": "2"})
    first, second = request.messages[1].tool_calls
    results = [each for message in request.messages for each in message.tool_results]
    expected = [second.id, first.id] if named else [first.id, second.id]
    assert [result.id for result in results] == expected
    written = OLLAMA.render_request(request)["messages"]
    assert not any("id" in call for call in written[1]["tool_calls"])
    assert not any("tool_call_id" in message for message in written)


BY_ID, BY_NAME, BY_NOTHING = {"tool_call_id": "B"}, {"tool_name": "f"}, dict[str, str]()


@pytest.mark.parametrize(("answered", "expected"), [
    ([{"tool_call_id": "A"}, BY_NAME], ["A", "B"]),
    ([BY_ID, BY_NAME], ["B", "A"]),
    ([BY_NAME, BY_NAME], ["A", "B"]),
    ([{"tool_call_id": "A"}, BY_NAME, BY_NOTHING], ["A", "B", "C"]),
    ([BY_ID, BY_NOTHING, BY_NOTHING], ["B", "A", "C"]),
    ([{"tool_call_id": "C"}, BY_NOTHING, BY_NAME], ["C", "A", "B"]),
])  # fmt: skip
def test_a_result_without_an_id_goes_to_no_call_that_has_one_by_its_id(
    answered: list[dict[str, str]], expected: list[str]
) -> None:
    calls = [
        {"id": i, "function": {"name": n, "arguments": {}}} for i, n in (("A", "f"), ("B", "f"), ("C", "g"))
    ]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    history = [{"role": "tool", "content": "x", **each} for each in answered]
    request = asked(HI, said, *history)
    assert [result.id for result in request.tool_results] == expected


def test_ids_that_came_are_written_again() -> None:
    call = {"id": "call_1", "function": {"name": "a", "arguments": {"x": 1}}}
    history = (
        HI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_name": "a", "tool_call_id": "call_1"},
    )
    assert OLLAMA.render_request(asked(*history))["messages"] == list(history)


def test_what_the_tools_of_another_dialect_show_comes_behind_their_results() -> None:
    image = Media(kind="image", data="iVBORw0K")
    calls = (ToolCall("a", "{}", "1"), ToolCall("b", "{}", "2"))
    results = (ToolResult(id="1", content=(image,)), ToolResult(id="2", content=(Text("x"),), is_error=True))
    messages = (Message("user", (Text("hi"),)), Message("assistant", calls), Message("tool", results))
    _, said, first, second, shown = OLLAMA.render_request(
        Request(dialect="openai_chat", model="m", messages=messages)
    )["messages"]
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == [{}, {}]
    assert (first["content"], first["tool_name"]) == ("(see below)", "a")
    assert (second["content"], second["tool_name"]) == ("Error: x", "b")
    assert shown == {"role": "user", "content": "", "images": ["iVBORw0K"]}


@pytest.mark.parametrize(
    ("choice", "names"),
    [(ToolChoice(mode="none"), []), (ToolChoice(mode="tool", name="b"), ["b"]), (None, ["a", "b"])],
)
def test_a_choice_of_tools_is_said_by_what_is_offered(choice: ToolChoice | None, names: list[str]) -> None:
    request = Request(
        dialect="openai_chat",
        model="m",
        messages=(Message("user", (Text("hi"),)),),
        tools=(Tool(name="a"), Tool(name="b")),
        tool_choice=choice,
    )
    offered = OLLAMA.render_request(request).get("tools", [])
    assert [tool["function"]["name"] for tool in offered] == names


# Answers


def test_an_answer_has_its_thoughts_its_text_its_calls_and_its_numbers() -> None:
    call = {"function": {"name": "ls", "arguments": {"path": "/"}}}
    message = {"role": "assistant", "content": "a", "thinking": "hm", "tool_calls": [call]}
    response = OLLAMA.parse_response(
        answered(message, done_reason="stop", prompt_eval_count=5, eval_count=3, total_duration=7)
    )
    assert response.content == (Reasoning("hm"), Text("a"), ToolCall("ls", '{"path":"/"}', ""))
    assert (response.stop_reason, response.usage) == ("tool_use", Usage(input_tokens=5, output_tokens=3))
    assert response.extra == {"total_duration": 7}


@pytest.mark.parametrize(("reason", "stop"), [("stop", "end"), ("length", "max_tokens"), (None, "end")])
def test_why_an_answer_ended(reason: str | None, stop: str) -> None:
    assert OLLAMA.parse_response(answered({"content": "a"}, done_reason=reason)).stop_reason == stop


@pytest.mark.parametrize("reason", ["load", "unload", "no such reason"])
def test_a_reason_that_is_none_for_an_answer_is_a_failure(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        OLLAMA.parse_response(answered({"content": ""}, done_reason=reason))


def test_a_stream_is_its_documents_one_on_each_line() -> None:
    parts = [
        {"content": "", "thinking": "h"},
        {"content": "", "thinking": "m"},
        {"content": "a"},
        {"content": "b"},
    ]
    lines = [{"model": "m", "message": part, "done": False} for part in parts]
    response = read(*lines, answered({"content": ""}, done_reason="stop", eval_count=2))
    assert response.content == (Reasoning("hm"), Text("ab"))
    assert response.usage == Usage(input_tokens=0, output_tokens=2)


def test_an_error_on_a_line_is_the_providers_failure_and_a_missing_end_a_truncation() -> None:
    begun = {"model": "m", "message": {"content": "a"}, "done": False}
    with pytest.raises(UpstreamError, match="an error was encountered"):
        read(begun, {"error": "an error was encountered while running the model"})
    with pytest.raises(UpstreamTruncated):
        read(begun)


def test_no_line_is_empty_for_the_official_client_dies_of_one() -> None:
    renderer = OLLAMA.stream_renderer(asked())
    answer = Response.of(Reasoning("hm"), "a\nb", ToolCall.of("ls", path="/"))
    body = renderer.keepalive() + b"".join(renderer.render(event) for event in events_of(answer))
    documents = [json.loads(line) for line in body.split(b"\n")[:-1]]
    assert [document["done"] for document in documents] == [False] * (len(documents) - 1) + [True]
    assert documents[-2]["message"]["tool_calls"][0]["function"] == {"name": "ls", "arguments": {"path": "/"}}


def test_a_prompt_that_is_too_long_is_known_by_its_words_both_ways() -> None:
    words = OLLAMA.render_error(Failure(status=400, message="prompt is too long: 9000 tokens > 8192 maximum"))
    assert words == {"error": "the input of 9000 tokens exceeds the maximum context length of 8192 tokens"}
    with pytest.raises(ContextLengthError):
        OLLAMA.parse_response(words)


# Through an endpoint


async def think_aloud(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send(Reasoning("hm"))
        for text in ("hel", "lo"):
            await stream.send(text)


async def chat(rollout: Rollout, **fields: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {rollout.api_key}"}
    async with httpx2.AsyncClient(headers=headers) as client:
        asks = {"model": "m", "messages": [HI], **fields}
        return await client.post(f"{rollout.base_url('ollama')}/api/chat", json=asks)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", DIALECTS)
async def test_its_agents_are_answered_by_providers_of_every_dialect(provider: str, stream: bool) -> None:
    async with (
        serve_endpoint() as there,
        there.open_rollout(think_aloud) as model,
        open_upstream(model.base_url(provider), dialect=provider, api_key=model.api_key) as upstream,
        serve_endpoint() as here,
        here.open_rollout(upstream) as rollout,
    ):
        answer = await chat(rollout, stream=stream)
    assert answer.status_code == 200
    documents = [json.loads(line) for line in answer.text.splitlines()]
    assert len(documents) > 1 if stream else len(documents) == 1
    assert "".join(document["message"]["content"] for document in documents) == "hello"
    assert documents[-1]["done_reason"] == "stop"
    assert documents[-1]["eval_count"] > 0


@pytest.mark.parametrize("agent", DIALECTS)
async def test_it_answers_agents_of_every_dialect_as_a_provider(agent: str) -> None:
    codec = DIALECTS[agent]
    request = Request(dialect=agent, model="m", messages=(Message("user", (Text("hi"),)),))
    async with (
        serve_endpoint() as there,
        there.open_rollout(think_aloud) as model,
        open_upstream(model.base_url("ollama"), dialect="ollama", api_key=model.api_key) as upstream,
        serve_endpoint() as here,
        here.open_rollout(upstream) as rollout,
    ):
        url = f"{rollout.base_url(agent)}{codec.path(request)}"
        headers = {**codec.key_headers(rollout.api_key), **codec.default_headers}
        async with httpx2.AsyncClient(headers=headers) as client:
            answer = await client.post(url, json=codec.render_request(request))
    assert (answer.status_code, codec.parse_response(answer.json()).text) == (200, "hello")
    (turn,) = model.trace
    assert turn.dialect == "ollama"


async def test_a_refusal_has_its_status_and_its_words() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(429, "slow down", retry_after=3)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        answer = await chat(rollout)
        wrong = await chat(rollout, messages=[{"role": "nobody"}])
    assert (answer.status_code, answer.json()) == (429, {"error": "slow down"})
    assert answer.headers["retry-after"] == "3"
    assert wrong.status_code == 400
    assert "messages[0].role" in wrong.json()["error"]


async def test_what_its_clients_ask_beside_is_answered() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(think_aloud, model="mine") as rollout:
        headers = {"authorization": f"Bearer {rollout.api_key}"}
        async with httpx2.AsyncClient(base_url=rollout.base_url("ollama"), headers=headers) as client:
            tags, version = await client.get("/api/tags"), await client.get("/api/version")
            shown = await client.post("/api/show", json={"model": "any"})
            elsewhere = await client.get("/api/blobs")
            missing = await client.get("/api/nothing")
            environment = rollout.environ()
    assert [model["name"] for model in tags.json()["models"]] == ["mine"]
    assert version.json()["version"]
    assert "tools" in shown.json()["capabilities"]
    assert (elsewhere.status_code, set(elsewhere.json())) == (501, {"error"}), "a real one has it"
    assert (missing.status_code, set(missing.json())) == (404, {"error"})
    assert environment["OLLAMA_HOST"] == environment["TRIOCEPT_URL"]


TOO_LONG = {
    "code": 400,
    "message": "request (2622 tokens) exceeds the available context size (512 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 2622,
    "n_ctx": 512,
}


@pytest.mark.parametrize(
    "words", [TOO_LONG["message"], "try increasing it"], ids=["counted", "in fields alone"]
)
def test_an_error_of_its_engine_that_is_a_text_in_its_own_is_read(words: str) -> None:
    """Ollama 0.40 says llama.cpp's whole document as its words."""
    nested = json.dumps({"error": {**TOO_LONG, "message": words}})
    failure = OLLAMA.parse_error(400, {"error": nested})
    assert failure.message.startswith(words)
    assert isinstance(error_of(failure), ContextLengthError)
    told = DIALECTS["anthropic_messages"].render_error(failure)["error"]["message"]
    assert told == "prompt is too long: 2622 tokens > 512 maximum"


@pytest.mark.parametrize(("nested", "words"), [
    ('{"error":{"code":400,"message":"no images","type":"invalid_request_error"}}', "no images"),
    ('{"error":"no images"}', "no images"),
    ('{"message":"no images"}', "no images"),
    ('{"error":{}}', '{"error":{}}'),
    ("{no images", "{no images"),
    ("[1]", "[1]"),
    ("3", "3"),
])  # fmt: skip
def test_any_text_in_an_error_is_its_words_or_holds_them(nested: str, words: str) -> None:
    failure = OLLAMA.parse_error(400, {"error": nested})
    assert (failure.status, failure.message, failure.code) == (400, words, None)


def test_the_overflow_of_an_earlier_ollama_is_one() -> None:
    failure = OLLAMA.parse_error(400, {"error": "the input length exceeds the context length"})
    assert isinstance(error_of(failure), ContextLengthError)
