"""Google's own Python SDK takes what we write, whole and streamed."""

from typing import Any

import httpx2
import msgspec
import pytest
from google import genai
from google.genai import errors, types

from tests.dialects.test_sdks import served
from triocept._canonical.content import Blob, Reasoning, Text, ToolCall
from triocept._canonical.response import Response, Usage
from triocept._canonical.tokens import estimate_input_tokens
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.base import Target
from triocept.dialects.gemini.side import parse_count_request, render_models, render_token_count

CODEC = DIALECTS["gemini"]
USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
ANSWERS = [
    Response((Text("hello é😀\u2028"),), usage=USAGE),
    Response((Reasoning("hm", (Blob("gemini", "thought_signature", "c2ln"),)), Text("ok"),
      ToolCall("ls", '{"path":"/"}', "c1", extra={"thoughtSignature": "c2ln"}), ToolCall.of("cat", n=1)),
     usage=USAGE),
    Response((ToolCall("ls", ""),)),
    Response(()),
    Response((), "refused", extra={"promptFeedback": {"blockReason": "SAFETY"}}),
]  # fmt: skip


def client(http: httpx2.Client) -> Any:
    options = types.HttpOptions(base_url="http://e.org", httpx_client=http)
    return genai.Client(api_key="k", http_options=options)


def of(answer: Response | Failure, *, broken: bool = False) -> Any:
    """The SDK's client, of a server of one answer."""
    return client(served("gemini", answer, broken=broken))


def text_of(parts: list[Any]) -> str:
    return "".join(part.text for part in parts if part.text and not part.thought)


def check(answer: Response, parts: list[Any]) -> None:
    calls = [part.function_call for part in parts if part.function_call]
    assert text_of(parts) == answer.text
    assert [(call.name, call.args) for call in calls] == [(c.name, c.parsed()) for c in answer.tool_calls]
    assert all(call.id for call in calls)
    thoughts = "".join(part.text for part in parts if part.thought)
    assert thoughts == "".join(part.text for part in answer.content if isinstance(part, Reasoning))
    assert [part.thought_signature for part in parts if part.thought_signature] == [b"sig", b"sig"][
        : 2 * bool(thoughts)
    ]


@pytest.mark.parametrize("answer", ANSWERS)
def test_google_genai_takes_a_whole_answer(answer: Response) -> None:
    response = of(answer).models.generate_content(model="m", contents="hi")
    check(answer, [part for each in response.candidates or () for part in each.content.parts])
    if answer.stop_reason == "refused":
        assert response.prompt_feedback.block_reason == "SAFETY"
    else:
        assert response.candidates[0].finish_reason == "STOP"
    usage = response.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + (
        usage.thoughts_token_count or 0
    )
    assert response.model_version == "m"


@pytest.mark.parametrize("answer", ANSWERS)
def test_google_genai_takes_a_streamed_answer(answer: Response) -> None:
    chunks = list(of(answer).models.generate_content_stream(model="m", contents="hi"))
    parts = [part for chunk in chunks for each in chunk.candidates or () for part in each.content.parts or ()]
    check(answer, parts)
    assert chunks[-1].usage_metadata.prompt_token_count == (10 if answer.usage else 1)
    ids = {chunk.response_id for chunk in chunks if chunk.response_id}
    assert len(ids) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_errors_are_those_of_the_client(status: int) -> None:
    with pytest.raises(errors.ClientError, match="the reason") as caught:
        of(Failure(status=status, message="the reason")).models.generate_content(model="m", contents="hi")
    assert caught.value.code == status


def test_a_failure_inside_a_stream_is_raised_by_the_client() -> None:
    with pytest.raises(errors.APIError, match="boom"):
        list(of(Response.of("half"), broken=True).models.generate_content_stream(model="m", contents="hi"))


def test_a_conversation_of_the_client_is_read_with_what_another_provider_signed() -> None:
    seen: list[Any] = []
    # Of another provider; its base64 has both characters that the alphabet of URLs writes otherwise.
    thought = Reasoning("hm", (Blob("anthropic_messages", "signature", "\u00fb\u00ff\u00fe???>>>"),))

    def respond(http: httpx2.Request) -> httpx2.Response:
        target = CODEC.match(http.url.path, "")
        assert target is not None
        seen.append(CODEC.parse_request(msgspec.json.decode(http.content), target))
        first = Response((thought, ToolCall.of("add", a=1, b=2)), dialect="anthropic_messages")
        answer = Response.of("done") if seen[1:] else first
        return httpx2.Response(200, json=CODEC.render_response(answer, seen[-1]))

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    http = httpx2.Client(transport=httpx2.MockTransport(respond))
    config = types.GenerateContentConfig(tools=[add], system_instruction="be terse", temperature=0.5, seed=7)
    with client(http) as sdk:
        response = sdk.models.generate_content(model="m", contents="1+2?", config=config)
    assert response.text == "done"
    first, second = seen
    assert (first.system, first.sampling.temperature, first.sampling.seed) == ("be terse", 0.5, 7)
    assert first.tools[0].name == "add"
    assert first.tools[0].parameters["type"] == "object"
    assert second.messages[-2].content[0] == thought
    assert second.tool_results[0].id == second.messages[-2].tool_calls[0].id
    assert second.tool_results[0].text in ("3", '{"result":3}')


def test_the_side_routes_are_those_of_the_client() -> None:
    def respond(http: httpx2.Request) -> httpx2.Response:
        if http.method == "GET":
            return httpx2.Response(200, json=render_models(["a", "b"]))
        counted = parse_count_request(msgspec.json.decode(http.content), Target(model="m"))
        return httpx2.Response(200, json=render_token_count(estimate_input_tokens(counted)))

    sdk = client(httpx2.Client(transport=httpx2.MockTransport(respond)))
    assert sdk.models.count_tokens(model="m", contents="x" * 40).total_tokens == 10
    assert [model.name for model in sdk.models.list()] == ["models/a", "models/b"]
