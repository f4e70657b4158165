"""OpenAI's and Anthropic's official clients take what each dialect writes, whole and streamed."""

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import msgspec
import openai
import pytest

from triocept._canonical.content import Blob, Reasoning, RefusalText, Text, ToolCall
from triocept._canonical.events import events_of
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Failure

USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
TALK = Response((Text("hello é😀"),), usage=USAGE)
CALLS = (ToolCall.of("ls", path="/"), ToolCall.of("cat", n=1))
ANSWERS = [
    TALK,
    Response((Reasoning("hm"), Text("ok"), *CALLS), usage=USAGE),
    Response((ToolCall("ls", ""),)),
]
CASES = [
    *((dialect, answer) for dialect in ("openai_chat", "anthropic_messages") for answer in (*ANSWERS,
      Response(()))),
    *(("openai_completions", answer) for answer in (TALK, Response.of(Reasoning("hm"), "ok"), Response(()))),
    ("openai_responses", TALK),
    ("openai_responses", Response((Reasoning("hm"), Text("ok"), Text("more"), *CALLS))),
    ("openai_responses", Response((ToolCall("ls", ""), ToolCall("patch", "***", kind="text")))),
    ("openai_responses",
     Response((Reasoning("", (Blob("gemini", "thought_signature", "S"),)), RefusalText("no")))),
    ("openai_responses", Response(())),
]  # fmt: skip


def served(dialect: str, answer: Response | Failure, *, broken: bool = False) -> httpx2.Client:
    """A server of one answer; its stream breaks before the end if it is `broken`."""
    codec = DIALECTS[dialect]

    def respond(http: httpx2.Request) -> httpx2.Response:
        target = codec.match(http.url.path, http.url.query.decode())
        assert target is not None
        request = codec.parse_request(msgspec.json.decode(http.content), target)
        if isinstance(answer, Failure):
            return httpx2.Response(answer.status, json=codec.render_error(answer))
        if not request.stream:
            return httpx2.Response(200, json=codec.render_response(answer, request))
        renderer = codec.stream_renderer(request)
        events = list(events_of(answer))
        pieces = [renderer.render(event) for event in (events[:-1] if broken else events)]
        pieces[1:1] = [renderer.keepalive()]
        if broken:
            pieces.append(renderer.fail(Failure(status=503, message="boom")))
        headers = {"content-type": codec.stream_type(request)}
        return httpx2.Response(200, content=b"".join(pieces), headers=headers)

    return httpx2.Client(transport=httpx2.MockTransport(respond))


def client(http: httpx2.Client, dialect: str) -> Any:
    if dialect == "anthropic_messages":
        return anthropic.Anthropic(api_key="k", base_url="http://e.org", http_client=http, max_retries=0)
    return openai.OpenAI(api_key="k", base_url="http://e.org/v1", http_client=http, max_retries=0)


USER: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATCH: Any = [{"type": "custom", "name": "patch"}]
CREATE: dict[str, Callable[..., Any]] = {
    "openai_chat": lambda sdk, **how: sdk.chat.completions.create(**USER, **how),
    "openai_completions": lambda sdk, **how: sdk.completions.create(model="m", prompt="hi", **how),
    "openai_responses": lambda sdk, **how: sdk.responses.create(model="m", input="hi", tools=PATCH, **how),
    "anthropic_messages": lambda sdk, **how: sdk.messages.create(**USER, max_tokens=9, **how),
}


def check(dialect: str, answer: Response, got: Any) -> None:
    """A whole answer as the client gives it."""
    names = [call.name for call in answer.tool_calls]
    if dialect == "openai_responses":
        assert got.output_text == answer.text
        assert [item.name for item in got.output if item.type.endswith("_call")] == names
        assert (got.model, got.status) == ("m", "completed")
        assert got.usage is not None
    elif dialect == "anthropic_messages":
        assert "".join(block.text for block in got.content if block.type == "text") == answer.text
        calls = [block for block in got.content if block.type == "tool_use"]
        assert [(call.name, call.input) for call in calls] == [
            (c.name, c.parsed()) for c in answer.tool_calls
        ]
        assert got.stop_reason == ("tool_use" if names else "end_turn")
        assert all(block.signature for block in got.content if block.type == "thinking")
        assert answer.usage is None or (got.usage.input_tokens, got.usage.cache_read_input_tokens) == (6, 4)
    else:
        (choice,) = got.choices
        said = choice.message.content if dialect == "openai_chat" else choice.text
        calls = (choice.message.tool_calls if dialect == "openai_chat" else None) or []
        assert (said or "", [call.function.name for call in calls], got.model) == (answer.text, names, "m")
        assert choice.finish_reason == ("tool_calls" if names else "stop")
        assert answer.usage is None or got.usage.prompt_tokens == 10


@pytest.mark.parametrize(("dialect", "answer"), CASES)
def test_a_client_takes_a_whole_answer(dialect: str, answer: Response) -> None:
    with client(served(dialect, answer), dialect) as sdk:
        check(dialect, answer, CREATE[dialect](sdk))


@pytest.mark.parametrize(("dialect", "answer"), CASES)
def test_a_client_takes_a_streamed_answer(dialect: str, answer: Response) -> None:
    with client(served(dialect, answer), dialect) as sdk:
        if dialect == "openai_chat":
            with sdk.chat.completions.stream(**USER, stream_options={"include_usage": True}) as stream:
                got = stream.get_final_completion()
            assert got.usage is not None
        elif dialect == "anthropic_messages":
            with sdk.messages.stream(**USER, max_tokens=9) as stream:
                got = stream.get_final_message()
        elif dialect == "openai_responses":
            *events, last = CREATE[dialect](sdk, stream=True)
            assert last.type == "response.completed"
            check(dialect, answer, last.response)
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            assert "".join(deltas) == answer.text
            with sdk.responses.stream(model="m", input="hi", tools=PATCH) as stream:
                got = stream.get_final_response()
        else:
            chunks = list(CREATE[dialect](sdk, stream=True, stream_options={"include_usage": True}))
            assert "".join(choice.text for each in chunks for choice in each.choices) == answer.text
            assert [choice.finish_reason for each in chunks for choice in each.choices][-1] == "stop"
            assert chunks[-1].usage is not None
            assert len({each.id for each in chunks}) == 1
            return
    check(dialect, answer, got)


@pytest.mark.parametrize(("status", "ours", "theirs"), [
    (400, openai.BadRequestError, anthropic.BadRequestError),
    (401, openai.AuthenticationError, anthropic.AuthenticationError),
    (404, openai.NotFoundError, anthropic.NotFoundError),
    (429, openai.RateLimitError, anthropic.RateLimitError),
    (529, openai.InternalServerError, anthropic.APIStatusError),
])  # fmt: skip
@pytest.mark.parametrize("dialect", CREATE)
def test_an_error_is_that_of_the_client(dialect: str, status: int, ours: Any, theirs: Any) -> None:
    http = served(dialect, Failure(status=status, message="the reason"))
    error = theirs if dialect == "anthropic_messages" else ours
    with client(http, dialect) as sdk, pytest.raises(error, match="the reason"):
        CREATE[dialect](sdk)


@pytest.mark.parametrize("dialect", CREATE)
def test_a_failure_inside_a_stream_is_raised_by_the_client(dialect: str) -> None:
    error = (openai.APIError, anthropic.APIError)
    with client(served(dialect, Response.of("half"), broken=True), dialect) as sdk:
        with pytest.raises(error, match="boom"):
            list(CREATE[dialect](sdk, stream=True))


@pytest.mark.parametrize("prompt", ["hi", ["hi"], [1, 2]])
def test_a_prompt_of_completions_is_a_text_or_token_ids(prompt: Any) -> None:
    with client(served("openai_completions", TALK), "openai_completions") as sdk:
        check("openai_completions", TALK, sdk.completions.create(model="m", prompt=prompt))
