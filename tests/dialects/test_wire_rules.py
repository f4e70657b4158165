"""Facts of the wires that no other test here is about: the order is that of a request's life.

The others stand where their dialect is tested. The facts were measured with real agents and SDKs, or read in the
sources of clients and servers; the modules of each dialect say where.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triocept._canonical.content import Json, Message, Reasoning, Text, ToolCall, ToolResult
from triocept._canonical.events import (
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)
from triocept._canonical.request import Request, Sampling, Tool
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.kit import decode_json
from triocept.dialects.openai_responses.response import render_ws_error
from triocept.dialects.openai_responses.side import continued, is_warm_up
from triocept.dialects.openai_responses.stream_renderer import Documents
from triocept.errors import DialectError, UpstreamError

from . import strategies as some

CHAT, COMPLETIONS, RESPONSES = "openai_chat", "openai_completions", "openai_responses"
ANTHROPIC, GEMINI = "anthropic_messages", "gemini"
USER: Json = {"role": "user", "content": "hi"}
HI = (Message("user", (Text("hi"),)),)
LS = Tool(name="ls", parameters={"type": "object", "properties": {}})
few = settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def asked(dialect: str = CHAT, **fields: Any) -> Request:
    return Request(**{"dialect": dialect, "model": "m", "messages": HI, **fields})


def body_of(dialect: str, response: Response, **fields: Any) -> bytes:
    renderer = DIALECTS[dialect].stream_renderer(asked(dialect, stream=True, **fields))
    return b"".join(renderer.render(event) for event in events_of(response))


def read(dialect: str, body: bytes) -> Response:
    parser = DIALECTS[dialect].stream_parser()
    return assemble([*parser.feed(body), *parser.close()])


def chunks(*documents: Json, done: bool = True) -> bytes:
    lines = b"".join(b"data: " + msgspec.json.encode(document) + b"\n\n" for document in documents)
    return lines + (b"data: [DONE]\n\n" if done else b"")


def delta(content: Json = None, reason: str | None = None, **choice: Json) -> Json:
    inner = content if isinstance(content, dict) else {"content": content}
    return {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "delta": inner, "finish_reason": reason, **choice}],
    }


# --- all dialects


TERMINALS = {
    CHAT: (b'"finish_reason":"', b"data: [DONE]"),
    COMPLETIONS: (b'"finish_reason":"', b"data: [DONE]"),
    RESPONSES: (b"event: response.completed",),
    ANTHROPIC: (b"event: message_delta", b"event: message_stop"),
    GEMINI: (b'"finishReason":"',),
    "ollama": (b'"done":true',),
}


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_stream_has_exactly_one_terminal_and_nothing_but_usage_behind_it(name: str) -> None:
    usage = Usage(input_tokens=5, output_tokens=3, cached_tokens=2)
    answer = some.sayable_answer(Response.of(Reasoning("hm"), "told", ToolCall.of("ls", a=1)), name)
    body = body_of(
        name, msgspec.structs.replace(answer, usage=usage), tools=() if name == COMPLETIONS else (LS,)
    )
    assert [body.count(mark) for mark in TERMINALS[name]] == [1] * len(TERMINALS[name])
    places = [body.index(mark) for mark in TERMINALS[name]]
    assert places == sorted(places)
    assert body.index(b"told") < places[0]


@pytest.mark.once
@few
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_null_is_a_field_that_is_not_there(name: str, data: st.DataObject) -> None:
    document = DIALECTS[name].render_request(data.draw(some.any_request(name)))
    holder, key = data.draw(st.sampled_from(list(places_of(document))))
    holder[key] = None
    try:
        DIALECTS[name].parse_request(document)
    except DialectError as error:
        assert "null" not in str(error)


def places_of(value: Json) -> Iterator[tuple[dict[str, Json], str]]:
    """Every field of every object."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from places_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from places_of(inner)


OPEN = [
    (CHAT,
     {"service_tier": "fast", "reasoning_effort": "xhigh", "verbosity": "huge", "modalities": ["smell"]}),
    (COMPLETIONS, {"service_tier": "fast"}),
    (RESPONSES,
     {"service_tier": "fast", "truncation": "some", "include": ["x"], "reasoning": {"effort": "ultra"}}),
    (ANTHROPIC, {"service_tier": "fast", "speed": "warp", "thinking": {"type": "new"}, "container": "c"}),
    (GEMINI,
     {"safetySettings": [{"category": "NEW"}], "generationConfig": {"thinkingConfig": {"thinkingLevel": "X"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), OPEN)
def test_values_that_nobody_knows_yet_are_kept(name: str, fields: dict[str, Json]) -> None:
    document = {
        **DIALECTS[name].render_request(asked(name, sampling=Sampling(max_output_tokens=9))),
        **fields,
    }
    assert DIALECTS[name].render_request(DIALECTS[name].parse_request(document)) == document


@pytest.mark.parametrize("name", [CHAT, RESPONSES, ANTHROPIC, GEMINI])
def test_every_call_has_an_id_and_arguments_of_the_kind_that_its_wire_wants(name: str) -> None:
    document = DIALECTS[name].render_response(
        Response.of(ToolCall("ls", ""), ToolCall("ls", '{"a":1}')), asked(name)
    )
    calls = {
        CHAT: lambda: [
            (c["id"], c["function"]["arguments"]) for c in document["choices"][0]["message"]["tool_calls"]
        ],
        RESPONSES: lambda: [(c["call_id"], c["arguments"]) for c in document["output"]],
        ANTHROPIC: lambda: [(c["id"], c["input"]) for c in document["content"]],
        GEMINI: lambda: [
            (p["functionCall"]["id"], p["functionCall"]["args"])
            for p in document["candidates"][0]["content"]["parts"]
        ],
    }[name]()
    ids, arguments = zip(*calls, strict=True)
    assert all(ids)
    assert len(set(ids)) == 2
    assert list(arguments) == (["{}", '{"a":1}'] if name in (CHAT, RESPONSES) else [{}, {"a": 1}])


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_model_is_the_one_that_the_agent_named_and_the_id_is_one(name: str) -> None:
    request = asked(name, model="asked-for")
    assert "asked-for" in str(DIALECTS[name].render_response(Response.of("a"), request))
    documents = [
        decode_json(line.removeprefix(b"data: "))
        for line in body_of(name, Response.of("a", "b"), model="asked-for").split(b"\n")
        if line.startswith((b"data: {", b"{"))
    ]
    assert documents
    found = [ids_of(document) for document in documents]
    assert len({identity for ids in found for identity in ids}) == (0 if name == "ollama" else 1)


def ids_of(document: Json) -> list[str]:
    inner = document.get("response") or document.get("message") or document
    return [inner[key] for key in ("id", "responseId") if key in inner]


# --- chat completions


@pytest.mark.parametrize(
    ("stop", "kept"), [("END", ("END",)), (["a", "b"], ("a", "b")), (None, ()), ([], ())]
)
@pytest.mark.parametrize("name", [CHAT, COMPLETIONS])
def test_stop_is_a_string_a_list_or_null(name: str, stop: Json, kept: tuple[str, ...]) -> None:
    document = {"model": "m", "messages": [USER], "prompt": "hi", "stop": stop}
    assert DIALECTS[name].parse_request(document).sampling.stop == kept


def test_a_list_of_tools_without_functions_is_not_no_tools() -> None:
    tools: Json = [{"type": "custom", "custom": {"name": "patch"}}, {"type": "web_search"}]
    request = DIALECTS[CHAT].parse_request({"model": "m", "messages": [USER], "tools": tools})
    assert [tool.kind for tool in request.tools] == ["custom", "server"]
    assert DIALECTS[CHAT].render_request(request)["tools"] == tools


@pytest.mark.parametrize("content", [None, "", [], "absent"])
def test_an_assistant_without_content_is_sent_with_a_text_unless_it_calls_tools(content: Json) -> None:
    said = {"role": "assistant"} if content == "absent" else {"role": "assistant", "content": content}
    request = DIALECTS[CHAT].parse_request({"model": "m", "messages": [USER, said]})
    assert DIALECTS[CHAT].render_request(request)["messages"][1]["content"] == ""


def test_system_messages_stay_where_they_stand() -> None:
    messages = [{"role": role, "content": role} for role in ("system", "user", "developer", "system", "user")]
    request = DIALECTS[CHAT].parse_request({"model": "m", "messages": messages})
    assert DIALECTS[CHAT].render_request(request)["messages"] == messages


def test_chunks_without_a_choice_come_at_either_end() -> None:
    filtered = {"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    offsets = {
        "id": "",
        "choices": [{"index": 0, "content_filter_offsets": {"start": 0}, "finish_reason": None}],
    }
    usage = {
        "id": "c",
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
    answer = read(
        CHAT, chunks(filtered, delta("a"), offsets, delta(None, "stop"), usage, {"choices": [], "sglext": {}})
    )
    assert (answer.text, answer.id, answer.stop_reason) == ("a", "c", "end")
    assert answer.usage == Usage(input_tokens=5, output_tokens=1)


def test_token_ids_of_an_empty_chunk_are_kept() -> None:
    answer = read(
        CHAT,
        chunks(
            {**delta({"role": "assistant", "content": ""}), "prompt_token_ids": [1, 2]},
            delta("a", token_ids=[3]),
            delta({}, token_ids=[4]),
            delta({}, "stop", token_ids=[5], stop_reason=None),
        ),
    )
    assert answer.extra["prompt_token_ids"] == [1, 2]
    assert answer.extra["choices"][0]["token_ids"] == [3, 4, 5]


def test_one_choice_of_several_is_the_first() -> None:
    second = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "length"}],
    }
    answer = read(CHAT, chunks(delta("a"), second, delta(None, "stop")))
    assert (answer.text, answer.stop_reason) == ("a", "end")


@pytest.mark.parametrize("chunk", [
    {"error": "out of memory"},
    {"error": {"object": "error", "message": "out of memory", "code": 500}},
    {"object": "error", "message": "out of memory", "code": 500},
    {"choices": [], "error": {"code": 502, "message": "out of memory", "metadata": {}}},
    {**delta(None, "error"), "error": {"message": "out of memory"}},
])  # fmt: skip
def test_an_error_inside_a_stream_is_one_in_whatever_form(chunk: Json) -> None:
    with pytest.raises(UpstreamError, match="out of memory"):
        read(CHAT, chunks(delta("a"), chunk))


def test_comments_of_gateways_are_passed_over() -> None:
    body = b": OPENROUTER PROCESSING\n\n" + chunks(delta("a"), delta(None, "stop"), done=False)
    assert read(CHAT, body).text == "a"


# --- completions


def test_log_probabilities_may_have_the_shape_of_chat() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1}]}
    choice = {"index": 0, "text": "a", "logprobs": logprobs, "finish_reason": "stop"}
    answer = DIALECTS[COMPLETIONS].parse_response({"choices": [choice]})
    assert answer.extra == {"choices": [{"logprobs": logprobs}]}
    streamed = read(COMPLETIONS, chunks({"id": "c", "choices": [choice]}))
    assert streamed.extra == answer.extra


# --- responses


def test_reasoning_items_go_back_verbatim() -> None:
    items: Json = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "a"}],
            "encrypted_content": "gAAA",
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}]},
    ]
    document = {"model": "m", "input": [USER, *items, {"role": "user", "content": "go on"}]}
    sent = DIALECTS[RESPONSES].render_request(DIALECTS[RESPONSES].parse_request(document))
    assert sent["input"][1:-1] == items


def test_documents_of_a_websocket_are_those_of_the_events_without_a_frame() -> None:
    response = Response.of(Reasoning("hm"), "so", ToolCall("ls", "{}", "call_1"))
    response = msgspec.structs.replace(
        response,
        id="resp_1",
        usage=Usage(
            input_tokens=5, output_tokens=3, cached_tokens=0, cache_write_tokens=0, reasoning_tokens=0
        ),
    )
    documents = Documents(asked(RESPONSES, tools=(LS,)))
    frames = [frame for event in events_of(response) for frame in documents.render(event)]
    assert documents.response_id == "resp_1"
    assert [decode_json(frame.data)["type"] for frame in frames] == [frame.type for frame in frames]
    assert [decode_json(frame.data)["sequence_number"] for frame in frames] == list(range(len(frames)))
    assert (frames[0].type, frames[-1].type) == ("response.created", "response.completed")
    framed = b"".join(b"event: %s\ndata: %s\n\n" % (f.type.encode(), f.data) for f in frames)
    answer = read(RESPONSES, framed)
    assert (answer.id, answer.text, answer.usage) == ("resp_1", "so", response.usage)
    assert [call.arguments for call in answer.tool_calls] == ["{}"]


def test_a_frame_is_a_request_and_a_warm_up_is_answered_without_items() -> None:
    frame = {"type": "response.create", "generate": False, "model": "m", "stream": True, "store": False}
    frame["input"] = [{"role": "developer", "content": "be terse"}]
    request = DIALECTS[RESPONSES].parse_request(frame)
    assert is_warm_up(request)
    assert request.stream
    documents = Documents(request)
    events = [ResponseStart(id="resp_w"), ResponseEnd()]
    frames = [decode_json(each.data) for event in events for each in documents.render(event)]
    assert [each["type"] for each in frames] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert (frames[-1]["response"]["id"], frames[-1]["response"]["output"]) == ("resp_w", [])
    assert frames[-1]["response"]["usage"]["total_tokens"] >= 0


def test_a_conversation_goes_on_over_a_warm_up_a_tool_turn_and_an_empty_input() -> None:
    codec = DIALECTS[RESPONSES]

    def frame(*items: Json, **fields: Json) -> Request:
        return codec.parse_request({"type": "response.create", "model": "m", "input": list(items), **fields})

    warm = frame({"role": "developer", "content": "be terse"}, generate=False)
    first = continued(frame(USER, previous_response_id="w"), warm, Response(()))
    call = ToolCall("ls", "{}", "call_1")
    output = {"type": "function_call_output", "call_id": "call_1", "output": "out"}
    second = continued(frame(output, previous_response_id="1"), first, Response((call,)))
    third = continued(frame(previous_response_id="2"), second, Response.of("not yet"))
    assert third.previous_response is None
    whole = codec.parse_request(codec.render_request(third))
    assert [message.role for message in whole.messages] == [
        "developer", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert whole.messages[2].tool_calls == (call,)
    assert whole.messages[3].tool_results == (ToolResult(id="call_1", content=(Text("out"),)),)


@pytest.mark.parametrize(("failure", "status", "code"), [
    (Failure(status=400, message="prompt is too long: 9 tokens > 8 maximum"), 400, "context_length_exceeded"),
    (Failure(status=429, message="slow down", retry_after=1.2), 429, "rate_limit_exceeded"),
    (Failure(status=500, message="oops"), 500, None),
    (Failure(status=400, message="gone", code="previous_response_not_found"), 400,
     "previous_response_not_found"),
    (Failure(status=400, message="old", code="websocket_connection_limit_reached"), 400,
     "websocket_connection_limit_reached"),
])  # fmt: skip
def test_an_error_frame_has_a_status_and_a_code(failure: Failure, status: int, code: str | None) -> None:
    frame = render_ws_error(failure)
    assert (frame["type"], frame["status"], frame["error"]["code"]) == ("error", status, code)
    assert frame["headers"] == ({"retry-after": "2"} if failure.retry_after else {})


def test_a_keepalive_of_a_websocket_is_an_event_of_the_same_response() -> None:
    documents = Documents(asked(RESPONSES))
    frames = [*documents.render(ResponseStart(id="resp_1")), *documents.keepalive()]
    frames += [
        each
        for event in (PartStart(0, Text("")), PartDelta(0, "a"), PartEnd(0), ResponseEnd())
        for each in documents.render(event)
    ]
    numbers = [decode_json(frame.data)["sequence_number"] for frame in frames]
    assert numbers == list(range(len(frames)))


# --- messages


@pytest.mark.parametrize("system", ["", [], None])
def test_no_empty_system_is_sent(system: Json) -> None:
    document = {"model": "m", "max_tokens": 9, "messages": [USER], "system": system}
    assert "system" not in DIALECTS[ANTHROPIC].render_request(DIALECTS[ANTHROPIC].parse_request(document))


def test_a_conversation_that_begins_with_the_assistant_has_a_turn_put_before_it() -> None:
    request = asked(messages=(Message("assistant", (Text("hello"),)), *HI))
    messages = DIALECTS[ANTHROPIC].render_request(request)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


def test_instructions_further_on_reach_messages_as_a_reminder_of_the_user() -> None:
    request = asked(
        messages=(*HI, Message("assistant", (Text("ok"),)), Message("developer", (Text("be terse"),)), *HI)
    )
    document = DIALECTS[ANTHROPIC].render_request(request)
    assert "system" not in document
    assert [message["role"] for message in document["messages"]][:3] == ["user", "assistant", "user"]
    assert document["messages"][2]["content"] == "<system-reminder>\nbe terse\n</system-reminder>"


def test_results_are_first_in_the_turn_behind_the_calls_whatever_stands_between() -> None:
    call, found = ToolCall("ls", "{}", "a"), Message("tool", (ToolResult(id="a", content=(Text("out"),)),))
    between = Message("developer", (Text("be terse"),))
    request = asked(messages=(*HI, Message("assistant", (call,)), between, found, *HI))
    messages = DIALECTS[ANTHROPIC].render_request(request)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [block["type"] for block in messages[2]["content"]] == ["tool_result", "text", "text"]


def test_calls_of_one_id_are_told_apart_where_a_provider_refuses_them() -> None:
    turn = (
        Message("assistant", (ToolCall("ls", "{}", "call_0"),)),
        Message("tool", (ToolResult(id="call_0", content=(Text("out"),)),)),
    )
    request = asked(messages=(*HI, *turn, *turn))
    for name in (ANTHROPIC, RESPONSES):
        told = DIALECTS[name].parse_request(DIALECTS[name].render_request(request))
        made = [call.id for message in told.messages for call in message.tool_calls]
        answered = [found.id for message in told.messages for found in message.tool_results]
        assert made == answered
        assert len(set(made)) == 2


def test_a_call_without_a_delta_is_an_empty_object() -> None:
    start = {"type": "content_block_start", "index": 0}
    start["content_block"] = {"type": "tool_use", "id": "t", "name": "ls", "input": {}}
    events: list[Json] = [
        {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 5}}},
        {"type": "ping"},
        start,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    body = b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events)
    assert read(ANTHROPIC, body).tool_calls == (ToolCall("ls", "{}", "t"),)


def test_the_usage_at_the_end_supersedes_that_of_the_start() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
    usage = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 9}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    body = b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), msgspec.json.encode(event))
        for event in (start, end, {"type": "message_stop"})
    )
    assert read(ANTHROPIC, body).usage == Usage(input_tokens=10, output_tokens=9, cached_tokens=3)


@pytest.mark.parametrize(("name", "word"), [
    (CHAT, b'"length"'),
    (ANTHROPIC, b'"max_tokens"'),
    (GEMINI, b'"MAX_TOKENS"'),
    (RESPONSES, b'"incomplete"'),
])  # fmt: skip
def test_a_call_that_the_cap_cut_never_makes_a_tool_turn(name: str, word: bytes) -> None:
    cut = Response((ToolCall("ls", '{"path": "/', "call_1"),), stop_reason="max_tokens")
    whole = DIALECTS[name].render_response(cut, asked(name, tools=(LS,)))
    for told in (msgspec.json.encode(whole), body_of(name, cut, tools=(LS,))):
        assert word in told
        assert b'"finish_reason":"tool_calls"' not in told
        assert b'"stop_reason":"tool_use"' not in told


# --- Gemini


def test_only_the_first_of_parallel_calls_has_the_value_for_no_signature() -> None:
    calls = Message("assistant", (ToolCall("ls", "{}", "a"), ToolCall("ls", "{}", "b")))
    contents = DIALECTS[GEMINI].render_request(asked(messages=(*HI, calls)))["contents"]
    signed = ["thoughtSignature" in part for part in contents[1]["parts"]]
    assert signed == [True, False]


@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"]
)
def test_a_failure_of_the_provider_never_looks_like_an_end(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        DIALECTS[GEMINI].parse_response({"candidates": [{"finishReason": reason}]})


# --- usage, in every pair


@pytest.mark.parametrize("agent", sorted(DIALECTS))
@pytest.mark.parametrize("provider", sorted(DIALECTS))
def test_more_cached_tokens_than_there_are_make_no_negative_number(provider: str, agent: str) -> None:
    usage = Usage(input_tokens=5, output_tokens=3, cached_tokens=9, cache_write_tokens=4, reasoning_tokens=7)
    answer = DIALECTS[provider].parse_response(
        DIALECTS[provider].render_response(Response((Text("a"),), usage=usage), asked(provider))
    )
    document = DIALECTS[agent].render_response(answer, asked(agent))
    assert not [number for number in numbers_of(document) if number < 0]


def numbers_of(value: Json) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_of(inner)
    elif isinstance(value, int | float):
        yield value
