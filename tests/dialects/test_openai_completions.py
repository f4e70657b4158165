"""Legacy completions: prompts, echo, log probabilities, streams."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from triocept._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.events import (
    Event,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)
from triocept._canonical.request import Request, Sampling, Tool, ToolChoice
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.base import Target
from triocept.dialects.kit import OVERFLOW
from triocept.errors import DialectError, UpstreamError, UpstreamTruncated

NAME = "openai_completions"
CODEC = DIALECTS[NAME]
CHAT, ANTHROPIC = DIALECTS["openai_chat"], DIALECTS["anthropic_messages"]
USAGE = Usage(input_tokens=10, output_tokens=5)


def parse(prompt: Json = "once upon", **fields: Json) -> Request:
    return CODEC.parse_request({"model": "m", "prompt": prompt, **fields})


def told(response: Response, **fields: Json) -> Json:
    return CODEC.render_response(response, parse(**fields))


def written(events: Iterable[Event], **fields: Json) -> bytes:
    renderer = CODEC.stream_renderer(parse(stream=True, **fields))
    return b"".join([renderer.render(event) for event in events])


def read(*chunks: Json, done: bool = True) -> Response:
    lines = [f"data: {msgspec.json.encode(chunk).decode()}\n\n" for chunk in chunks]
    parser = CODEC.stream_parser()
    events = parser.feed("".join([*lines, "data: [DONE]\n\n" if done else ""]).encode())
    return assemble([*events, *parser.close()])


def chunk(text: Json = "", reason: str | None = None, **choice: Json) -> Json:
    return {
        "id": "c1",
        "model": "M",
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason, **choice}],
    }


def test_its_path_is_not_that_of_chat() -> None:
    assert CODEC.match("/v1/completions", "") == CODEC.match("/completions", "") == Target()
    assert CODEC.match("/v1/chat/completions", "") is None
    assert CHAT.match("/v1/completions", "") is None
    assert CODEC.path(parse()) == "/completions"


# Prompts.


@pytest.mark.parametrize("prompt", ["once upon", ["once upon"]])
def test_a_prompt_is_a_message_of_the_user(prompt: Json) -> None:
    request = parse(prompt)
    assert request.messages == (Message("user", (Text("once upon"),)),)
    assert CODEC.render_request(request) == {"model": "m", "prompt": "once upon"}


def test_an_empty_prompt_is_one() -> None:
    assert CODEC.render_request(parse("")) == {"model": "m", "prompt": ""}


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]], [0]])
def test_token_ids_are_kept_and_another_dialect_refuses_them(prompt: Json) -> None:
    request = parse(prompt)
    ids = prompt[0] if isinstance(prompt[0], list) else prompt
    assert request.messages == (Message("user", (Opaque(NAME, ids),)),)
    assert CODEC.render_request(request)["prompt"] == ids
    for name, other in DIALECTS.items():
        if name != NAME:
            with pytest.raises(DialectError, match="token ids") as caught:
                other.render_request(request)
            assert caught.value.path == "prompt"


def test_a_user_that_openai_refuses_is_left_out_for_others_only() -> None:
    request = Request(dialect="gemini", model="m", messages=(said("user", "hi"),), user="u" * 65)
    assert "user" not in CODEC.render_request(request)
    assert CODEC.render_request(msgspec.structs.replace(request, user="u" * 64))["user"] == "u" * 64
    assert CODEC.render_request(parse("hi", user="u" * 65))["user"] == "u" * 65


@pytest.mark.parametrize(("fields", "path"), [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": [[1], [2]]}, "prompt"),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": [["a"]]}, "prompt[0]"),
    ({"prompt": [1, True]}, "prompt[1]"),
    ({"prompt": [1, "a"]}, "prompt[1]"),
    ({"prompt": [{}]}, "prompt[0]"),
    ({"n": 2}, "n"),
    ({"stop": [5]}, "stop[0]"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"model": None}, "model"),
])  # fmt: skip
def test_what_is_wrong_in_a_request_is_named(fields: Json, path: str) -> None:
    with pytest.raises(DialectError) as caught:
        CODEC.parse_request({"model": "m", "prompt": "a", **fields})
    assert caught.value.path == path


def test_a_whole_request_is_read_and_written_again() -> None:
    document = {
        "model": "m", "prompt": "a", "suffix": "z", "max_tokens": 0, "temperature": 0.5, "top_p": 0.9,
        "top_k": 5, "n": 1, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "logprobs": 5, "echo": True, "stop": ["\n"], "presence_penalty": 1, "frequency_penalty": 1,
        "best_of": 3, "logit_bias": {"5": 1}, "seed": 7, "user": "u", "return_token_ids": True,
    }  # fmt: skip
    request = CODEC.parse_request(document)
    assert request.sampling == Sampling(
        max_output_tokens=0,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop=("\n",),
        seed=7,
        presence_penalty=1,
        frequency_penalty=1,
    )
    assert (request.extra["logprobs"], request.extra["echo"], request.extra["best_of"]) == (5, True, 3)
    del document["n"]
    assert CODEC.render_request(request) == document


def test_one_stop_may_be_a_string() -> None:
    assert parse(stop="\n").sampling.stop == ("\n",)


# Answers.


def test_a_whole_answer_is_read_and_written_again() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}], "text_offset": [0]}
    choice = {"text": "a", "index": 0, "logprobs": logprobs, "finish_reason": "length", "token_ids": [5]}
    document = {
        "id": "c1",
        "object": "text_completion",
        "created": 1,
        "model": "M",
        "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        "system_fingerprint": "fp",
    }
    response = CODEC.parse_response(document)
    assert (response.text, response.stop_reason, response.usage) == ("a", "max_tokens", USAGE)
    assert response.extra == {
        "choices": [{"logprobs": logprobs, "token_ids": [5]}],
        "system_fingerprint": "fp",
    }
    again = told(response)
    assert {**again, "created": 1} == document


@pytest.mark.parametrize(
    ("reason", "stop"), [("stop", "end"), ("length", "max_tokens"), ("content_filter", "refused")]
)
def test_finish_reasons_are_read_and_written_again(reason: str, stop: str) -> None:
    response = CODEC.parse_response(chunk("a", reason))
    assert response.stop_reason == stop
    assert told(response)["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("reason", ["abort", "", None, 5])
def test_an_unknown_reason_is_a_failure(reason: Any) -> None:
    with pytest.raises(UpstreamError):
        CODEC.parse_response(chunk("a", reason))


def test_the_stop_string_that_matched_is_told() -> None:
    response = CODEC.parse_response(chunk("a", "stop", stop_reason="END"))
    assert (response.stop_reason, response.stop_sequence) == ("stop_sequence", "END")
    choice = told(response)["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")
    streamed = read(chunk("a"), chunk("", "stop", matched_stop="END"))
    assert (streamed.stop_reason, streamed.stop_sequence) == ("stop_sequence", "END")


def test_an_answer_without_choices_is_named() -> None:
    with pytest.raises(DialectError) as caught:
        CODEC.parse_response({"choices": []})
    assert caught.value.path == "choices"


def test_reasoning_is_left_out_and_a_refusal_is_text() -> None:
    response = Response.of(Reasoning("hm"), "a", RefusalText("b"))
    assert told(response)["choices"][0]["text"] == "ab"
    assert read_back(written(events_of(response))).text == "ab"


def read_back(body: bytes) -> Response:
    parser = CODEC.stream_parser()
    return assemble([*parser.feed(body), *parser.close()])


def test_a_tool_call_cannot_be_said() -> None:
    response = Response.of(ToolCall.of("ls"))
    with pytest.raises(DialectError, match="no tool calls, so it cannot express the call of 'ls'"):
        told(response)
    with pytest.raises(DialectError, match="no tool calls, so it cannot express the call of 'ls'"):
        written(events_of(response))


def test_echo_puts_the_prompt_before_the_answer() -> None:
    response = Response.of(" a time")
    assert told(response, echo=True)["choices"][0]["text"] == "once upon a time"
    assert told(response, echo=False)["choices"][0]["text"] == " a time"
    assert read_back(written(events_of(response), echo=True)).text == "once upon a time"


def test_a_provider_that_was_asked_to_echo_has_done_so() -> None:
    response = Response((Text("once upon a time"),), dialect=NAME)
    assert told(response, echo=True)["choices"][0]["text"] == "once upon a time"
    assert read_back(written(events_of(response), echo=True)).text == "once upon a time"
    foreign = Response((Text(" a time"),), dialect="openai_chat")
    assert told(foreign, echo=True)["choices"][0]["text"] == "once upon a time"


def test_token_ids_have_no_text_to_echo() -> None:
    assert told(Response.of("a"), prompt=[1, 2], echo=True)["choices"][0]["text"] == "a"


# Streams.


def test_the_minimal_stream_is_this() -> None:
    response = Response((Text("hi"),), usage=USAGE, model="M", id="c1")
    body = written(events_of(response), stream_options={"include_usage": True})
    head = '{"id":"c1","object":"text_completion","created":1,"model":"M",'
    lines = [
        head + '"choices":[{"text":"hi","index":0,"logprobs":null,"finish_reason":null}]}',
        head + '"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}',
        head + '"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}',
        "[DONE]",
    ]
    body = re.sub(rb'"created":\d+', b'"created":1', body)
    assert body.decode() == "".join(f"data: {line}\n\n" for line in lines)


def test_usage_is_told_only_to_those_who_ask_and_estimated_where_nobody_counted() -> None:
    assert b"usage" not in written(events_of(Response((Text("a"),), usage=USAGE)))
    body = written(events_of(Response.of("x" * 40)), stream_options={"include_usage": True})
    assert b'"usage":{"prompt_tokens":2,"completion_tokens":10,"total_tokens":12}' in body


def test_log_probabilities_of_a_stream_are_gathered() -> None:
    def logprobs(token: str) -> Json:
        return {"tokens": [token], "token_logprobs": [-1], "top_logprobs": None, "text_offset": [0]}

    response = read(
        {"choices": []},
        chunk("a", logprobs=logprobs("a"), token_ids=[1], prompt_token_ids=[9]),
        chunk("b", logprobs=logprobs("b"), token_ids=[2]),
        chunk("", token_ids=[3]),
        chunk("", "stop"),
        {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}, "system_fingerprint": "fp"},
    )
    assert (response.text, response.usage, response.stop_reason) == ("ab", USAGE, "end")
    (choice,) = response.extra["choices"]
    assert (choice["logprobs"]["tokens"], choice["token_ids"]) == (["a", "b"], [1, 2, 3])
    assert (choice["prompt_token_ids"], response.extra["system_fingerprint"]) == ([9], "fp")
    assert told(response)["choices"][0]["logprobs"]["token_logprobs"] == [-1, -1]


def test_other_choices_and_missing_texts_do_not_disturb() -> None:
    other = {"choices": [{"text": "no", "index": 1, "finish_reason": "stop"}]}
    assert read(chunk("a"), other, chunk(None), chunk("b", "stop"), done=False).text == "ab"


def test_a_stream_without_a_finish_reason_is_truncated() -> None:
    for done in (True, False):
        with pytest.raises(UpstreamTruncated):
            read(chunk("a"), done=done)


def test_an_error_in_place_of_a_chunk_is_raised() -> None:
    with pytest.raises(UpstreamError, match="boom"):
        read(chunk("a"), {"error": {"message": "boom", "code": 500}})


def test_texts_that_overlap_are_all_there() -> None:
    events = [
        ResponseStart(extra={"x": 1}), PartStart(0, Text("a")), PartStart(1, Reasoning()), PartDelta(1, "hm"),
        PartDelta(0, "b"), PartEnd(1), PartEnd(0), ResponseEnd(),
    ]  # fmt: skip
    response = read_back(written(events))
    assert (response.text, response.extra) == ("ab", {"x": 1})


# Errors.


def test_an_overflow_is_that_of_the_prompt() -> None:
    failure = Failure(status=400, message="prompt is too long: 9000 tokens > 8192 maximum")
    error = CODEC.render_error(failure)["error"]
    assert (error["code"], error["param"]) == (OVERFLOW, "prompt")
    assert "maximum context length is 8192 tokens" in error["message"]


# From and into other dialects.


def rendered(*messages: Message, **fields: Any) -> Json:
    return CODEC.render_request(Request(dialect="openai_chat", model="m", messages=messages, **fields))


def said(role: Any, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def test_a_conversation_becomes_a_text() -> None:
    assert rendered(said("user", "hi")) == {"model": "m", "prompt": "hi", "max_tokens": 4096}
    assert rendered(said("system", "be terse"), said("user", "hi"))["prompt"] == "be terse\n\nhi"
    prompt = rendered(
        said("system", "be terse"),
        said("user", "hi"),
        said("assistant", Reasoning("hm"), "yo"),
        said("user", "a"),
    )["prompt"]
    assert prompt == "be terse\n\nUser: hi\n\nAssistant: yo\n\nUser: a\n\nAssistant:"


@pytest.mark.parametrize(("part", "what"), [
    (ToolCall.of("ls"), "a tool call"),
    (ToolResult(id="c"), "a tool's result"),
    (Media(kind="image", url="u"), "media"),
])  # fmt: skip
def test_what_a_prompt_cannot_say_is_an_error(part: Part, what: str) -> None:
    with pytest.raises(DialectError, match=what) as caught:
        rendered(said("user", "hi"), said("user", "see", part))
    assert caught.value.path == "messages[1].content[1]"


def test_tools_cannot_be_offered_unless_none_may_be_called() -> None:
    tools = (Tool(name="ls"),)
    with pytest.raises(DialectError, match="cannot offer tools"):
        rendered(said("user", "hi"), tools=tools)
    assert rendered(said("user", "hi"), tools=tools, tool_choice=ToolChoice(mode="none"))["prompt"] == "hi"


def test_a_prompt_reaches_other_dialects_and_their_answers_come_back() -> None:
    request = parse(max_tokens=9, stop="END", temperature=1.5, echo=True, suffix="z", logprobs=3)
    chat = CHAT.render_request(request)
    assert chat["messages"] == [{"role": "user", "content": "once upon"}]
    assert (chat["max_completion_tokens"], chat["stop"]) == (9, ["END"])
    assert not {"echo", "suffix", "logprobs", "prompt"} & chat.keys()
    messages = ANTHROPIC.render_request(request)
    assert messages["messages"] == [{"role": "user", "content": "once upon"}]
    assert (messages["max_tokens"], messages["temperature"]) == (9, 1)
    answer = CHAT.parse_response(
        {"id": "x", "choices": [{"message": {"content": " a time"}, "finish_reason": "stop", "logprobs": {}}]}
    )
    choice = CODEC.render_response(answer, request)["choices"][0]
    assert (choice["text"], choice["logprobs"]) == ("once upon a time", None)
