"""The official clients take what we write, whole and streamed."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import msgspec
import openai
import pytest

from triocept._canonical.content import Reasoning, Text, ToolCall
from triocept._canonical.events import events_of
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Dialect, Failure

USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
ANSWERS = [
    Response((Text("hello é😀"),), usage=USAGE),
    Response(
        (Reasoning("hm"), Text("ok"), ToolCall.of("ls", path="/"), ToolCall.of("cat", n=1)), usage=USAGE
    ),
    Response((ToolCall("ls", ""),)),
    Response(()),
]


def transport(dialect: Dialect, answer: Response | Failure, *, broken: bool = False) -> httpx2.MockTransport:
    """A server of one answer."""

    def respond(http: httpx2.Request) -> httpx2.Response:
        request = dialect.parse_request(msgspec.json.decode(http.content))
        if isinstance(answer, Failure):
            return httpx2.Response(answer.status, json=dialect.render_error(answer))
        if not request.stream:
            return httpx2.Response(200, json=dialect.render_response(answer, request))
        renderer = dialect.stream_renderer(request)
        events = list(events_of(answer))
        pieces = [renderer.render(event) for event in (events[:-1] if broken else events)]
        pieces[1:1] = [renderer.keepalive()]
        if broken:
            pieces.append(renderer.fail(Failure(status=500, message="boom")))
        return httpx2.Response(
            200, content=b"".join(pieces), headers={"content-type": dialect.stream_type(request)}
        )

    return httpx2.MockTransport(respond)


def openai_client(answer: Response | Failure, **how: bool) -> openai.OpenAI:
    http = httpx2.Client(transport=transport(DIALECTS["openai_chat"], answer, **how))
    return openai.OpenAI(api_key="k", base_url="http://e.org/v1", http_client=http, max_retries=0)


def anthropic_client(answer: Response | Failure, **how: bool) -> anthropic.Anthropic:
    http = httpx2.Client(transport=transport(DIALECTS["anthropic_messages"], answer, **how))
    return anthropic.Anthropic(api_key="k", base_url="http://e.org", http_client=http, max_retries=0)


CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES: Any = {**CHAT, "max_tokens": 9}


@pytest.mark.parametrize("answer", ANSWERS)
def test_openai_takes_a_whole_answer(answer: Response) -> None:
    with openai_client(answer) as client:
        completion = client.chat.completions.create(**CHAT)
    message = completion.choices[0].message
    assert (message.content or "") == answer.text
    assert [call.function.name for call in message.tool_calls or []] == [
        call.name for call in answer.tool_calls
    ]
    assert completion.model == "m"


@pytest.mark.parametrize("answer", ANSWERS)
def test_openai_takes_a_streamed_answer(answer: Response) -> None:
    with (
        openai_client(answer) as client,
        client.chat.completions.stream(**CHAT, stream_options={"include_usage": True}) as stream,
    ):
        completion = stream.get_final_completion()
    message = completion.choices[0].message
    assert (message.content or "") == answer.text
    assert [call.function.name for call in message.tool_calls or []] == [
        call.name for call in answer.tool_calls
    ]
    assert completion.choices[0].finish_reason == ("tool_calls" if answer.tool_calls else "stop")
    assert completion.usage is not None
    assert answer.usage is None or completion.usage.prompt_tokens == 10


@pytest.mark.parametrize("answer", ANSWERS)
def test_anthropic_takes_a_whole_answer(answer: Response) -> None:
    with anthropic_client(answer) as client:
        message = client.messages.create(**MESSAGES)
    assert "".join(block.text for block in message.content if block.type == "text") == answer.text
    assert [block.name for block in message.content if block.type == "tool_use"] == [
        call.name for call in answer.tool_calls
    ]
    assert answer.usage is None or (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (
        6,
        4,
    )


@pytest.mark.parametrize("answer", ANSWERS)
def test_anthropic_takes_a_streamed_answer(answer: Response) -> None:
    with anthropic_client(answer) as client, client.messages.stream(**MESSAGES) as stream:
        message = stream.get_final_message()
    assert "".join(block.text for block in message.content if block.type == "text") == answer.text
    inputs = [block.input for block in message.content if block.type == "tool_use"]
    assert inputs == [call.parsed() for call in answer.tool_calls]
    assert message.stop_reason == ("tool_use" if answer.tool_calls else "end_turn")
    assert all(block.signature for block in message.content if block.type == "thinking")


@pytest.mark.parametrize(
    ("status", "ours", "theirs"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (401, openai.AuthenticationError, anthropic.AuthenticationError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (429, openai.RateLimitError, anthropic.RateLimitError),
        (529, openai.InternalServerError, anthropic.APIStatusError),
    ],
)
def test_errors_are_those_of_the_clients(
    status: int, ours: type[openai.APIError], theirs: type[anthropic.APIError]
) -> None:
    failure = Failure(status=status, message="the reason")
    with openai_client(failure) as client, pytest.raises(ours, match="the reason"):
        client.chat.completions.create(**CHAT)
    with anthropic_client(failure) as other, pytest.raises(theirs, match="the reason"):
        other.messages.create(**MESSAGES)


def test_a_failure_inside_a_stream_is_raised_by_the_clients() -> None:
    answer = Response.of("half")
    with openai_client(answer, broken=True) as client, pytest.raises(openai.APIError, match="boom"):
        list(client.chat.completions.create(**CHAT, stream=True))
    with anthropic_client(answer, broken=True) as other, pytest.raises(anthropic.APIError, match="boom"):
        list(other.messages.create(**MESSAGES, stream=True))
