"""Responses, streamed: the grammar, what Codex and the official client see, and what servers really send."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from triocept._canonical.content import Blob, Json, Message, Opaque, Reasoning, RefusalText, Text, ToolCall
from triocept._canonical.events import (
    Event,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)
from triocept._canonical.memory import Memory
from triocept._canonical.request import Request, Tool
from triocept._canonical.response import Response, Usage
from triocept._util.sse import SSEDecoder
from triocept.dialects import DIALECTS, Failure
from triocept.dialects._clock import answered_at
from triocept.dialects.kit import OVERFLOW, encode_json
from triocept.dialects.openai_responses.stream_renderer import Documents, Renderer
from triocept.dialects.openai_responses.tools import echoed_tools
from triocept.errors import ContextLengthError, UpstreamError, UpstreamTruncated

NAME, CHAT = "openai_responses", "openai_chat"
RESPONSES = DIALECTS[NAME]
USAGE = Usage(input_tokens=10, output_tokens=5)
STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PATCH = Tool(name="patch", kind="custom", extra={"type": "custom", "name": "patch"})


def asked(**fields: Any) -> Request:
    messages = (Message("user", (Text("hi"),)),)
    return Request(dialect=NAME, model="M", messages=messages, stream=True, **fields)


def to_codex(**fields: Any) -> Request:
    return asked(extra={"client_metadata": {"x-codex-window-id": "w"}}, **fields)


def written(events: Iterable[Event], request: Request | None = None) -> list[Json]:
    documents = Documents(request or asked())
    return [msgspec.json.decode(each.data) for event in events for each in documents.render(event)]


def kinds(documents: Iterable[Json]) -> list[str]:
    return [document["type"].removeprefix("response.") for document in documents]


def only(documents: Iterable[Json], kind: str) -> list[Json]:
    return [document for document in documents if document["type"] == f"response.{kind}"]


def read(*documents: Json | str) -> Response:
    lines = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in documents]
    parser = RESPONSES.stream_parser()
    events = parser.feed("".join(f"data: {line}\n\n" for line in lines).encode())
    return assemble([*events, *parser.close()])


CREATED: Json = {
    "type": "response.created",
    "response": {"id": "resp_1", "model": "M", "status": "in_progress"},
}


def completed(**fields: Json) -> Json:
    response = {"id": "resp_1", "model": "M", "status": "completed", "output": [], **fields}
    return {"type": "response.completed", "response": response}


def added(item: Json, number: int | None = 0) -> Json:
    place = {} if number is None else {"output_index": number}
    return {"type": "response.output_item.added", "item": item, **place}


def done(item: Json, number: int | None = 0) -> Json:
    return {**added(item, number), "type": "response.output_item.done"}


def event(kind: str, **fields: Json) -> Json:
    return {"type": f"response.{kind}", **fields}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "bash"}
ARGUMENTS = '{"command": "echo hello"}'


def test_the_minimal_stream_is_this() -> None:
    part = ToolCall("bash", ARGUMENTS, "call_1", extra={"id": "fc_1"})
    documents = written(events_of(Response((part,), usage=USAGE, model="M", id="resp_1")))
    created, progress, *middle, end = documents
    assert (created["type"], progress["type"]) == ("response.created", "response.in_progress")
    begun = created["response"]
    assert (begun["id"], begun["object"], begun["status"], begun["output"]) == (
        "resp_1",
        "response",
        "in_progress",
        [],
    )
    assert progress["response"] == begun
    place = {"item_id": "fc_1", "output_index": 0}
    item = {**CALL, "arguments": ARGUMENTS, "status": "completed"}
    assert middle == [
        {**added({**CALL, "arguments": "", "status": "in_progress"}), "sequence_number": 2},
        event("function_call_arguments.delta", **place, sequence_number=3, delta=ARGUMENTS),
        event("function_call_arguments.done", **place, sequence_number=4, arguments=ARGUMENTS, name="bash"),
        {**done(item), "sequence_number": 5},
    ]
    assert end["type"] == "response.completed"
    assert (end["response"]["id"], end["response"]["created_at"]) == ("resp_1", begun["created_at"])
    assert (end["response"]["status"], end["response"]["output"]) == ("completed", [item])
    assert end["response"]["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }


def changed_copy(request: Request) -> Request:
    copy = deepcopy(request)
    for tool in copy.tools[:1]:
        assert tool.parameters is not None
        tool.parameters["properties"] = {"more": {"type": "null"}}
    return copy


EDITS: dict[str, Callable[[Request], Request]] = {
    "none": lambda request: request,
    "fewer tools": lambda request: msgspec.structs.replace(request, tools=request.tools[1:]),
    "another dialect": lambda request: msgspec.structs.replace(request, dialect=CHAT),
    "a changed copy": changed_copy,
}


@pytest.mark.parametrize("extra", [None, {"service_tier": "flex"}, {"tools": [{"strict": True, "more": 1}]}])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_answer_repeats_the_tools_of_its_own_request_however_often_they_were_repeated(
    edit: Callable[[Request], Request], extra: dict[str, Json] | None
) -> None:
    function = {"type": "function", "name": "ls", "description": "\ud83d", "parameters": {"type": "object"}}
    space = {"type": "namespace", "name": "agents", "tools": [{**function, "name": "spawn"}]}
    memory, response = Memory(), Response((Text("hi"),), usage=USAGE, model="M", id="resp_1", extra=extra)
    for number in range(3):
        tools = [function, space, {"type": "web_search"}]
        asked = {"model": "M", "input": f"hi {number}", "tools": deepcopy(tools)}
        parsed = RESPONSES.parse_request(asked, memory=memory)
        Renderer(parsed).render(ResponseStart())
        request = edit(parsed)
        unshared = msgspec.structs.replace(request, tools=(*request.tools,))
        with answered_at(1.0):
            documents = Documents(request)
            stream = [wire for event in events_of(response) for wire in documents.render(event)]
            whole = RESPONSES.render_response(response, unshared)
        events = [msgspec.json.decode(wire.data) for wire in stream]
        assert [encode_json(event) for event in events] == [wire.data for wire in stream]
        begun = msgspec.json.decode(
            encode_json(echoed_tools(unshared.tools, same_dialect=request.dialect == NAME))
        )
        assert [event["response"]["tools"] for event in events[:2]] == [begun, begun]
        assert events[-1]["response"] == msgspec.json.decode(encode_json(whole))


ITEM_KINDS = {
    "text": (Text("hi"),
     ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]),
    "refusal": (RefusalText("no"),
     ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"]),
    "summary": (Reasoning("hm"),
     ["reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done",
      "reasoning_summary_part.done"]),
    "content": (Reasoning("hm", extra={"item": {}, "content_index": 0}),
     ["reasoning_text.delta", "reasoning_text.done"]),
    "encrypted": (Reasoning("", (Blob(NAME, "encrypted_content", "e"),)), []),
    "custom": (ToolCall("patch", "***", kind="text"),
     ["custom_tool_call_input.delta", "custom_tool_call_input.done"]),
    "opaque": (
     Opaque(NAME, {"type": "code_interpreter_call", "id": "c", "status": "completed", "container_id": "k"}),
     []),
}  # fmt: skip


@pytest.mark.parametrize(("part", "inner"), ITEM_KINDS.values(), ids=ITEM_KINDS)
def test_each_item_has_these_events(part: Any, inner: list[str]) -> None:
    documents = written(events_of(Response((part,))), asked(tools=(PATCH,)))
    assert kinds(documents) == [
        "created", "in_progress", "output_item.added", *inner, "output_item.done", "completed",
    ]  # fmt: skip
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    for document in documents:
        STREAM_EVENT.validate_python(document)
    item = only(documents, "output_item.done")[0]["item"]
    assert documents[-1]["response"]["output"] == [item]
    for document in documents[3:-2]:
        assert (document["item_id"], document["output_index"]) == (item["id"], 0)


def test_every_frame_has_the_name_of_its_data() -> None:
    renderer = RESPONSES.stream_renderer(asked())
    body = b"".join(renderer.render(each) for each in events_of(Response.of(Reasoning("a"), "b")))
    for sse in SSEDecoder().feed(body + renderer.keepalive()):
        assert sse.event == msgspec.json.decode(sse.data)["type"]


def test_overlapping_parts_are_told_apart_by_their_places() -> None:
    a, b = ToolCall("a", "", "c1"), ToolCall("b", "", "c2")
    events = [
        ResponseStart(), PartStart(0, a), PartStart(1, b), PartDelta(1, '{"b":1}'), PartDelta(0, "{}"),
        PartEnd(0), PartEnd(1), ResponseEnd(),
    ]  # fmt: skip
    documents = written(events)
    deltas = only(documents, "function_call_arguments.delta")
    assert [(each["output_index"], each["delta"]) for each in deltas] == [(1, '{"b":1}'), (0, "{}")]
    assert [item["name"] for item in documents[-1]["response"]["output"]] == ["a", "b"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    documents = written(events_of(Response((ToolCall("ls", ""),))))
    assert [each["delta"] for each in only(documents, "function_call_arguments.delta")] == ["{}"]


def test_a_call_of_the_wrong_kind_is_held_until_it_is_whole() -> None:
    documents = Documents(asked(tools=(PATCH,)))
    begin = [*documents.render(ResponseStart()), *documents.render(PartStart(0, ToolCall("patch", "", "c1")))]
    assert len(begin) == 2
    assert documents.render(PartDelta(0, '{"input": ')) == []
    assert documents.render(PartDelta(0, '"***"}')) == []
    rest = [msgspec.json.decode(each.data) for each in documents.render(PartEnd(0))]
    assert kinds(rest) == ["output_item.added", "custom_tool_call_input.delta"]
    assert rest[-1]["delta"] == "***"


def test_a_call_in_a_namespace_has_it_from_the_first_event_on() -> None:
    tool = Tool(name="spawn", parameters={}, extra={"namespace": {"name": "agents"}})
    documents = written(events_of(Response((ToolCall("spawn"),), dialect=CHAT)), asked(tools=(tool,)))
    assert only(documents, "output_item.added")[0]["item"]["namespace"] == "agents"
    assert only(documents, "output_item.done")[0]["item"]["namespace"] == "agents"


def cut_events(part: ToolCall, stop: Any) -> list[Event]:
    return list(events_of(Response((ToolCall("ls", "{}", "c0"), part), stop_reason=stop)))


@pytest.mark.parametrize("stop", ["max_tokens", "context_full"])
@pytest.mark.parametrize("part", [ToolCall("ls", '{"a": ', "c1"), ToolCall("patch", "*", "c1", "text")])
def test_a_call_that_a_cap_cut_is_never_done(part: ToolCall, stop: Any) -> None:
    documents = written(cut_events(part, stop), to_codex(tools=(PATCH,)))
    assert [each["item"]["call_id"] for each in only(documents, "output_item.done")] == ["c0"]
    assert not only(documents, "custom_tool_call_input.done")
    assert documents[-1]["response"]["output"][1]["status"] == "incomplete"
    assert kinds(documents)[-1] == "completed"


def test_a_whole_last_call_is_done_whatever_the_cap() -> None:
    documents = written(cut_events(ToolCall("ls", '{"a": 1}', "c1"), "max_tokens"))
    assert [each["item"]["call_id"] for each in only(documents, "output_item.done")] == ["c0", "c1"]


def test_a_call_that_a_failure_follows_is_not_done() -> None:
    documents = Documents(asked())
    kinds_ = []
    for each in list(events_of(Response((ToolCall("ls"),))))[:-1]:
        kinds_ += [frame.type for frame in documents.render(each)]
    kinds_ += [frame.type for frame in documents.fail(Failure(status=500, message="m"))]
    assert "response.output_item.done" not in kinds_
    assert kinds_[-1] == "error"


def test_a_cap_is_incomplete_to_all_but_codex() -> None:
    events = list(events_of(Response((Text("a"),), stop_reason="max_tokens")))
    end = written(events)[-1]
    assert (end["type"], end["response"]["status"]) == ("response.incomplete", "incomplete")
    assert end["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    end = written(events, to_codex())[-1]
    assert (end["type"], end["response"]["status"]) == ("response.completed", "completed")
    assert end["response"]["incomplete_details"] is None


def test_an_upstreams_own_words_of_the_end_do_not_reach_codex() -> None:
    kept = {"status": "incomplete", "incomplete_details": {"reason": "steered"}, "end_turn": False}
    events = [ResponseStart(dialect=NAME), ResponseEnd(stop_reason="paused", extra=kept)]
    assert written(events)[-1]["type"] == "response.incomplete"
    end = written(events, to_codex())[-1]
    assert (end["type"], end["response"]["end_turn"]) == ("response.completed", False)


def test_a_keepalive_comes_behind_created_and_its_id_stays() -> None:
    renderer = Renderer(asked())
    assert renderer.response_id == ""
    body = renderer.keepalive()
    identity = renderer.response_id
    assert identity.startswith("resp_")
    body += renderer.render(ResponseStart(id="resp_other")) + renderer.keepalive()
    body += renderer.render(ResponseEnd())
    documents = [msgspec.json.decode(sse.data) for sse in SSEDecoder().feed(body)]
    assert kinds(documents) == ["created", "in_progress", "keepalive", "keepalive", "completed"]
    assert [each["sequence_number"] for each in documents] == [0, 1, 2, 3, 4]
    assert {each["response"]["id"] for each in documents if "response" in each} == {identity}


@pytest.mark.parametrize(("failure", "code"), [
    (Failure(status=500, message="m"), None),
    (Failure(status=500, message="m", should_retry=False), "invalid_prompt"),
    (Failure(status=404, message="m", should_retry=False), "invalid_prompt"),
    (Failure(status=429, message="m"), "rate_limit_exceeded"),
    (Failure(status=503, message="m"), "server_error"),
    (Failure(status=503, message="m", code="server_is_overloaded"), "server_is_overloaded"),
    (Failure(status=400, message="prompt is too long", should_retry=False), OVERFLOW),
])  # fmt: skip
def test_a_failure_is_one_event_flat_and_nested(failure: Failure, code: str | None) -> None:
    documents = Documents(asked())
    documents.render(ResponseStart())
    (frame,) = documents.fail(failure)
    document = msgspec.json.decode(frame.data)
    assert frame.type == document["type"] == "error"
    assert document["code"] == document["error"]["code"] == code
    assert document["message"] == document["error"]["message"]
    assert document["sequence_number"] == 2
    STREAM_EVENT.validate_python(document)


def test_annotations_and_logprobs_are_events_and_in_the_whole_text() -> None:
    cite = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    log = {"token": "a", "bytes": [], "logprob": -1.0, "top_logprobs": []}
    events = [
        ResponseStart(dialect=NAME),
        PartStart(0, Text("", {"annotations": [cite]})),
        PartDelta(0, "a"),
        PartBlob(0, Blob(NAME, "annotations", msgspec.json.encode(cite).decode())),
        PartBlob(0, Blob(NAME, "logprobs", msgspec.json.encode(log).decode())),
        PartBlob(0, Blob("another", "annotations", "{}")),
        PartEnd(0),
        ResponseEnd(),
    ]
    documents = written(events)
    assert [each["annotation_index"] for each in only(documents, "output_text.annotation.added")] == [0, 1]
    part = only(documents, "content_part.done")[0]["part"]
    assert (part["annotations"], part["logprobs"]) == ([cite, cite], [log])
    for document in documents:
        STREAM_EVENT.validate_python(document)
    (text,) = read(*documents).content
    assert (text.text, text.extra["annotations"], text.extra["logprobs"]) == ("a", [cite, cite], [log])  # type: ignore[union-attr,index]


WHOLE: Json = {
    "id": "resp_1",
    "model": "M",
    "status": "completed",
    "output": [{"type": "reasoning", "id": "rs_1",
      "summary": [{"type": "summary_text", "text": "s1"}, {"type": "summary_text", "text": "s2"}],
      "content": [{"type": "reasoning_text", "text": "c"}], "encrypted_content": "e"},
     {"type": "message", "id": "msg_1", "role": "assistant", "phase": "commentary",
      "content": [{"type": "output_text", "text": "a", "annotations": []},
       {"type": "output_text", "text": "b", "annotations": []}]}, {**CALL, "arguments": "{}"}],
}  # fmt: skip


def test_an_item_of_several_parts_is_one_item_again() -> None:
    response = RESPONSES.parse_response(WHOLE)
    assert len(response.content) == 6
    documents = written(events_of(response))
    assert [each["item"]["id"] for each in only(documents, "output_item.done")] == ["rs_1", "msg_1", "fc_1"]
    output = documents[-1]["response"]["output"]
    assert output == RESPONSES.render_response(response, asked())["output"]
    again = read(*documents)
    assert again.content == response.content


def test_the_usual_stream_of_openai_is_read() -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    response = read(
        CREATED,
        {**CREATED, "type": "response.in_progress"},
        added(message),
        event("content_part.added", **place, part=part),
        event("output_text.delta", **place, delta="hel"),
        {"type": "keepalive", "sequence_number": 4},
        event("output_text.delta", **place, delta="lo"),
        event("output_text.done", **place, text="hello"),
        event("content_part.done", **place, part={**part, "text": "hello"}),
        done({**message, "content": [{**part, "text": "hello"}]}),
        completed(usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}, service_tier="x"),
    )
    assert (response.text, response.id, response.model, response.stop_reason) == (
        "hello",
        "resp_1",
        "M",
        "end",
    )
    assert response.usage == Usage(input_tokens=1, output_tokens=2)
    assert response.extra == {"service_tier": "x"}


def test_events_without_numbers_and_places_are_read() -> None:
    """llama.cpp gives neither indexes nor the events of a call's end; `length` is `completed` too."""
    response = read(
        CREATED,
        added({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""}, None),
        event("reasoning_text.delta", item_id="rs_1", delta="hm"),
        done(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
                "encrypted_content": "",
            },
            None,
        ),
        added({**CALL, "arguments": ""}, None),
        event("function_call_arguments.delta", item_id="fc_1", delta="{}"),
        done({**CALL, "arguments": "{}", "status": "completed"}, None),
        completed(),
        "[DONE]",
    )
    reasoning, call = response.content
    assert isinstance(reasoning, Reasoning)
    assert (reasoning.text, reasoning.blobs) == ("hm", ())
    assert call == ToolCall("bash", "{}", "call_1", extra={"id": "fc_1"})


@pytest.mark.parametrize("item", WHOLE["output"])
def test_an_item_that_comes_whole_is_read(item: Json) -> None:
    expected = RESPONSES.parse_response({**WHOLE, "output": [item]}).content
    assert read(CREATED, done(item), completed()).content == expected
    assert read(CREATED, added(item), done(item), completed()).content == expected
    assert read(done(item), completed()).content == expected
    assert read(completed(output=[item])).content == expected


def test_text_that_only_the_end_tells_is_read() -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "content": []}
    told = event("output_text.done", output_index=0, content_index=0, text="all")
    assert read(CREATED, added(item), told, completed()).text == "all"
    begun = event("output_text.delta", output_index=0, content_index=0, delta="a")
    assert read(CREATED, added(item), begun, told, completed()).text == "all"


def test_an_empty_or_unknown_event_is_nothing() -> None:
    response = read(
        CREATED,
        event("output_item.added", output_index=0, item=None),
        event("output_item.done", output_index=0, item=None),
        event("output_text.delta", output_index=7, delta="lost"),
        event("function_call_arguments.delta", output_index=7, delta="lost"),
        event("output_text.annotation.added", output_index=7, annotation={}),
        event("something.new", x=1),
        {"type": "codex.rate_limits", "x": 1},
        completed(),
    )
    assert response.content == ()


def test_an_event_without_a_type_is_told_by_its_name() -> None:
    parser = RESPONSES.stream_parser()
    data = msgspec.json.encode({"response": completed()["response"]}).decode()
    events = parser.feed(f"event: response.completed\ndata: {data}\n\n".encode())
    assert isinstance(events[-1], ResponseEnd)


@pytest.mark.parametrize(("document", "kind", "status"), [
    ({"type": "response.failed", "response": {"status": "failed", "error": None}}, UpstreamError, 502),
    ({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}}},
     UpstreamError, 429),
    ({"type": "response.failed", "response": {"error": {"code": OVERFLOW, "message": "m"}}},
     ContextLengthError, 400),
    ({"type": "error", "code": "server_error", "message": "m"}, UpstreamError, 500),
    ({"type": "error", "error": {"code": OVERFLOW, "message": "m"}}, ContextLengthError, 400),
    ({"error": {"message": "m", "code": 503}}, UpstreamError, 503),
])  # fmt: skip
def test_a_failure_of_the_provider_is_raised(document: Json, kind: type[UpstreamError], status: int) -> None:
    with pytest.raises(kind) as caught:
        read(CREATED, document)
    assert caught.value.status == status


def test_a_stream_without_its_end_is_a_truncation() -> None:
    item = {**CALL, "arguments": "{}"}
    with pytest.raises(UpstreamTruncated):
        read(CREATED, done(item))
    with pytest.raises(UpstreamTruncated):
        read()


def test_an_incomplete_stream_says_why() -> None:
    end = completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert read(CREATED, {**end, "type": "response.incomplete"}).stop_reason == "max_tokens"
    with pytest.raises(UpstreamError, match="aborted its answer"):
        read(CREATED, completed(status="cancelled"))
