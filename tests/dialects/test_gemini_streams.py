"""Streams of generateContent: the minimal ones, byte for byte, and what servers really send."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triocept._canonical.content import Blob, Json, Message, Opaque, Reasoning, Text, ToolCall
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
from triocept._canonical.request import Request
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Failure
from triocept.dialects._portable import pack
from triocept.errors import DialectError, UpstreamError, UpstreamTruncated

from . import strategies as some

CODEC = DIALECTS["gemini"]
USAGE = Usage(input_tokens=10, output_tokens=5)
SIGNED = (Blob("gemini", "thought_signature", "c2ln"),)


def asked(**fields: Any) -> Request:
    messages = (Message("user", (Text("hi"),)),)
    return Request(dialect="gemini", model="M", messages=messages, stream=True, **fields)


def written(events: Iterable[Event], **fields: Any) -> bytes:
    renderer = CODEC.stream_renderer(asked(**fields))
    return b"".join(renderer.render(event) for event in events)


def documents(body: bytes) -> list[Json]:
    return [msgspec.json.decode(line[6:]) for line in body.split(b"\n\n") if line]


def parts_of(body: bytes) -> list[Json]:
    return [
        part
        for document in documents(body)
        for candidate in document.get("candidates", ())
        for part in candidate["content"]["parts"]
        if part != {"text": ""}
    ]


def read(*pieces: bytes) -> Response:
    parser = CODEC.stream_parser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return assemble([*events, *parser.close()])


def sse(*chunks: Json, end: str = "\r\n\r\n") -> bytes:
    return "".join(f"data: {msgspec.json.encode(chunk).decode()}{end}" for chunk in chunks).encode()


def chunk(*parts: Json, reason: str | None = None, **more: Json) -> Json:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "M", "responseId": "r", **more}


# Written.


ANSWER = Response(
    (Reasoning("hm"), Text("hi"), ToolCall("bash", '{"command": "echo"}', "c1")), usage=USAGE, id="g1"
)
TAIL = '"role":"model"},"index":0}],"modelVersion":"M","responseId":"g1"}'
CHUNKS = [
    '{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}],' + TAIL,
    '{"candidates":[{"content":{"parts":[{"text":"hi"}],' + TAIL,
    '{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c1","name":"bash","args":{"command":"echo"}}}],'
    + TAIL,
    '{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],'
    '"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"totalTokenCount":15},'
    '"modelVersion":"M","responseId":"g1"}',
]


def test_the_minimal_stream_of_events_is_this() -> None:
    body = written(events_of(ANSWER)).decode()
    assert body == "".join(f"data: {each}\n\n" for each in CHUNKS)


def test_the_minimal_json_array_is_this() -> None:
    body = written(events_of(ANSWER), framing="json_array").decode()
    assert body == "[" + ",\r\n".join(CHUNKS) + "]"


def test_text_goes_out_as_it_comes_and_a_call_when_it_is_whole() -> None:
    renderer = CODEC.stream_renderer(asked())
    assert renderer.render(ResponseStart()) == b""
    assert renderer.render(PartStart(0, Text(""))) == b""
    assert parts_of(renderer.render(PartDelta(0, "a"))) == [{"text": "a"}]
    assert renderer.render(PartEnd(0)) == b""
    assert renderer.render(PartStart(1, ToolCall("ls", "", "c"))) == b""
    assert renderer.render(PartDelta(1, '{"a":')) == b""
    assert renderer.render(PartDelta(1, "1}")) == b""
    (part,) = parts_of(renderer.render(PartEnd(1)))
    assert part == {"functionCall": {"id": "c", "name": "ls", "args": {"a": 1}}}


def test_parts_that_overlap_come_one_after_the_other() -> None:
    events: list[Event] = [
        ResponseStart(), PartStart(0, ToolCall("a", "", "t0")), PartStart(1, Text("")), PartDelta(1, "x"),
        PartStart(2, ToolCall("b", "", "t2")), PartDelta(2, "{}"), PartEnd(2), PartDelta(0, "{}"), PartEnd(0),
        PartDelta(1, "y"), PartEnd(1), ResponseEnd(),
    ]  # fmt: skip
    first, x, y, second = parts_of(written(events))
    assert (first["functionCall"]["name"], second["functionCall"]["name"]) == ("a", "b")
    assert (x, y) == ({"text": "x"}, {"text": "y"})


def test_a_signature_is_written_on_its_very_part() -> None:
    response = Response(
        (
            Reasoning("hm", SIGNED),
            Text("a", {"thoughtSignature": "x"}),
            ToolCall("ls", "{}", "c", extra={"thoughtSignature": "y"}),
        ),
        dialect="gemini",
    )
    events = list(events_of(response))
    # As the parser gives it: the signature of a thought that stands alone is known from its start.
    events[1:4] = [PartStart(0, Reasoning("", SIGNED)), PartDelta(0, "hm")]
    assert parts_of(written(events)) == [
        {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
        {"text": "a", "thoughtSignature": "x"},
        {"functionCall": {"id": "c", "name": "ls", "args": {}}, "thoughtSignature": "y"},
    ]


def test_signatures_of_others_are_packed_and_foreign_extras_are_not_written() -> None:
    other = (Blob("anthropic_messages", "signature", "s"),)
    content = (Reasoning("hm", other), Text("a", {"x": 1}), ToolCall("ls", "{}", "c", extra={"y": 1}))
    body = written(events_of(Response(content, dialect="anthropic_messages", extra={"container": 1})))
    assert parts_of(body) == [
        {"text": "hm", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": pack(other, "gemini")},
        {"text": "a"},
        {"functionCall": {"id": "c", "name": "ls", "args": {}}},
    ]
    assert b"container" not in body


def test_what_the_answer_has_beside_is_in_the_last_chunk() -> None:
    extra = {"createTime": "now", "candidates": [{"safetyRatings": [1]}]}
    *_, last = documents(written(events_of(Response((Text("a"),), extra=extra))))
    assert (last["createTime"], last["candidates"][0]["safetyRatings"]) == ("now", [1])


def test_a_blocked_prompt_is_one_chunk_without_candidates() -> None:
    response = Response((), "refused", extra={"promptFeedback": {"blockReason": "SAFETY"}}, dialect="gemini")
    body = written(events_of(response))
    (document,) = documents(body)
    assert "candidates" not in document
    assert read(body).stop_reason == "refused"


def test_a_keepalive_is_no_comment() -> None:
    assert CODEC.stream_renderer(asked()).keepalive() == b'data: {"candidates": []}\n\n'
    renderer = CODEC.stream_renderer(asked(framing="json_array"))
    body = b"".join(renderer.keepalive() + renderer.render(event) for event in events_of(ANSWER))
    assert len(msgspec.json.decode(body)) == 4
    assert read(body).text == "hi"


def test_an_error_among_events_is_a_bare_object_that_no_client_can_pass_over() -> None:
    body = CODEC.stream_renderer(asked()).fail(Failure(status=503, message="m"))
    assert body.startswith(b'{"error":{"code":503,')
    assert not body.endswith(b"\n\n")


@pytest.mark.parametrize("started", [True, False])
def test_an_error_in_an_array_is_its_last_item(started: bool) -> None:
    renderer = CODEC.stream_renderer(asked(framing="json_array"))
    events = [ResponseStart(), PartStart(0, Text("")), PartDelta(0, "half")] if started else []
    body = b"".join(map(renderer.render, events)) + renderer.fail(Failure(status=503, message="the reason"))
    assert msgspec.json.decode(body)[-1]["error"]["code"] == 503
    with pytest.raises(UpstreamError, match="the reason"):
        read(body)


# Read.


def test_text_and_thoughts_go_on_from_chunk_to_chunk() -> None:
    body = sse(
        chunk({"text": "h", "thought": True}),
        chunk({"text": "m", "thought": True, "thoughtSignature": "c2ln"}),
        chunk({"text": "o"}),
        chunk({"text": "k"}, usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 1}),
        chunk({"text": "", "thoughtSignature": "z"}),
        chunk({"functionCall": {"name": "ls", "args": {"a": 1}}, "thoughtSignature": "y"}),
        chunk(
            {"text": ""},
            reason="STOP",
            usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        ),
    )
    response = read(body)
    assert response.content == (
        Reasoning("hm", SIGNED),
        Text("ok"),
        Text("", {"thoughtSignature": "z"}),
        ToolCall("ls", '{"a":1}', extra={"thoughtSignature": "y"}),
    )
    assert (response.stop_reason, response.usage, response.model, response.id) == (
        "tool_use",
        USAGE,
        "M",
        "r",
    )


def test_usage_may_come_behind_the_finish_and_content_may_not() -> None:
    body = sse(
        chunk({"text": "a"}, reason="STOP"), {"usageMetadata": {"promptTokenCount": 9}}, chunk({"text": "b"})
    )
    response = read(body)
    assert (response.text, response.usage) == ("a", Usage(input_tokens=9, output_tokens=0))


def test_a_stream_without_content_or_parts_is_read() -> None:
    finish = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}]}
    response = read(sse({"candidates": [{}]}, {"candidates": [{"content": {"role": "model"}}]}, finish))
    assert (response.content, response.stop_reason) == ((), "max_tokens")


def test_other_candidates_and_unknown_fields_do_not_disturb() -> None:
    other = {"index": 1, "content": {"parts": [{"text": "no"}]}, "finishReason": "STOP"}
    body = sse(
        chunk({"text": "a"}),
        {"candidates": [other]},
        {"candidates": [{"index": 0, "logprobsResult": {"chosenCandidates": [1]}, "safetyRatings": [1]}]},
        {
            "candidates": [
                {"finishReason": "STOP", "logprobsResult": {"chosenCandidates": [2]}, "safetyRatings": [2]}
            ],
            "createTime": "now",
        },
    )
    response = read(body)
    assert response.text == "a"
    beside = {"logprobsResult": {"chosenCandidates": [1, 2]}, "safetyRatings": [2]}
    assert response.extra == {"createTime": "now", "candidates": [beside]}


def test_code_and_pictures_are_opaque_parts() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}
    response = read(sse(chunk({"executableCode": {"code": "1"}}, picture, reason="STOP")))
    assert response.content == (
        Opaque("gemini", {"executableCode": {"code": "1"}}),
        Opaque("gemini", picture),
    )
    assert parts_of(written(events_of(response))) == [{"executableCode": {"code": "1"}}, picture]


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "OTHER", "NEWEST"])
def test_a_reason_that_is_no_answer_is_a_failure(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        read(sse(chunk({"text": "a"}), chunk(reason=reason)))


@pytest.mark.parametrize("body", [b"", b"[", b"[]", sse(chunk({"text": "a"})), sse({"candidates": []})])
def test_a_stream_without_a_finish_reason_is_truncated(body: bytes) -> None:
    with pytest.raises(UpstreamTruncated):
        read(body)


ERROR = (
    b'{\n  "error": {\n    "code": 503,\n    "message": "no {capacity",\n    "status": "UNAVAILABLE"\n  }\n}'
)


@pytest.mark.parametrize("body", [
    sse(chunk({"text": "a"})) + ERROR,
    sse(chunk({"text": "a"})) + ERROR + b"\n",
    ERROR,
    sse({"error": {"code": 503, "message": "no {capacity", "status": "UNAVAILABLE"}}),
    b"[" + msgspec.json.encode(chunk({"text": "a"})) + b",\r\n" + ERROR + b"]",
    b"[" + ERROR,
])  # fmt: skip
def test_an_error_in_place_of_a_response_is_raised_wherever_it_stands(body: bytes) -> None:
    with pytest.raises(UpstreamError, match=r"no \{capacity") as caught:
        read(body)
    assert caught.value.status == 503


def test_a_gateways_done_is_read_over() -> None:
    assert read(sse(chunk({"text": "a"}, reason="STOP")) + b"data: [DONE]\n\n").text == "a"


few = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(data=st.data())
def test_an_array_says_what_a_stream_of_events_says_however_it_is_split(data: st.DataObject) -> None:
    events = list(events_of(data.draw(some.any_response("gemini"))))
    body = written(events, framing="json_array")
    assert isinstance(msgspec.json.decode(body), list)
    whole = read(written(events))
    split = read(*data.draw(some.splits(b" \n" + body)))
    each = [
        msgspec.structs.replace(response, content=without_ids(response), id="") for response in (split, whole)
    ]
    assert each[0] == each[1]


def without_ids(response: Response) -> tuple[Any, ...]:
    return tuple(
        msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part
        for part in response.content
    )


def test_byte_by_byte_and_pretty_an_array_is_read() -> None:
    pretty = msgspec.json.format(
        msgspec.json.encode([chunk({"text": 'a "{[é😀\\'}), chunk({"text": "}"}, reason="STOP")])
    )
    assert read(*(pretty[i : i + 1] for i in range(len(pretty)))).text == 'a "{[é😀\\}'


def test_a_document_over_the_cap_is_refused() -> None:
    parser = CODEC.stream_parser()
    parser.feed(b'[{"a":"')
    with pytest.raises(DialectError, match="larger than"):
        for _ in range(70):
            parser.feed(b"x" * 1024 * 1024)


def test_a_stream_of_another_dialect_reaches_a_gemini_agent_and_back() -> None:
    events = [
        ResponseStart(dialect="anthropic_messages"), PartStart(0, Reasoning()), PartDelta(0, "hm"),
        PartBlob(0, Blob("anthropic_messages", "signature", "s")),
        PartEnd(0), PartStart(1, ToolCall("ls", "", "toolu_1")), PartDelta(1, '{"a": 1}'), PartEnd(1),
        ResponseEnd(stop_reason="tool_use", usage=Usage(input_tokens=10, output_tokens=5, cached_tokens=4)),
    ]  # fmt: skip
    response = read(written(events))
    signature = (Blob("anthropic_messages", "signature", "s"),)
    call = ToolCall("ls", '{"a":1}', "toolu_1")
    assert response.content == (Reasoning("hm", signature), call)
    for name, blobs in (("openai_chat", ()), ("anthropic_messages", signature)):
        request = msgspec.structs.replace(asked(), dialect=name)
        renderer, parser = DIALECTS[name].stream_renderer(request), DIALECTS[name].stream_parser()
        body = b"".join(renderer.render(event) for event in events_of(response))
        told = assemble([*parser.feed(body), *parser.close()])
        assert told.content == (Reasoning("hm", blobs), call)
        assert (told.stop_reason, told.usage) == ("tool_use", response.usage)
