"""Streams: the minimal ones, byte for byte, and what servers really send."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

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
from triocept._canonical.request import Request, Tool
from triocept._canonical.response import Response, Usage
from triocept._util.sse import SSEDecoder
from triocept.dialects import DIALECTS
from triocept.errors import ContextLengthError, DialectError, UpstreamError, UpstreamTruncated

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"
USAGE = Usage(input_tokens=10, output_tokens=5)


def asked(dialect: str, **fields: Any) -> Request:
    messages = (Message("user", (Text("hi"),)),)
    return Request(dialect=dialect, model="M", messages=messages, stream=True, **fields)


def written(dialect: str, events: Iterable[Event], **fields: Any) -> bytes:
    renderer = DIALECTS[dialect].stream_renderer(asked(dialect, **fields))
    return b"".join(renderer.render(event) for event in events)


def read(dialect: str, *documents: Json | str, done: bool = True) -> Response:
    lines = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in documents]
    if dialect == CHAT and done:
        lines.append("[DONE]")
    parser = DIALECTS[dialect].stream_parser()
    events = parser.feed("".join(f"data: {line}\n\n" for line in lines).encode())
    return assemble([*events, *parser.close()])


def delta(fields: Json = None, reason: str | None = None, **more: Json) -> Json:
    return {
        "id": "c1",
        "model": "M",
        "choices": [{"index": 0, "delta": fields or {}, "finish_reason": reason}],
        **more,
    }


def call(
    index: int | None = None, identity: str | None = None, name: str | None = None, text: Any = ""
) -> Json:
    fragment: dict[str, Json] = {"function": {"arguments": text} | ({"name": name} if name else {})}
    fragment |= {} if index is None else {"index": index}
    return fragment | ({} if identity is None else {"id": identity})


def kinds(body: bytes) -> list[str]:
    return [sse.event for sse in SSEDecoder().feed(body)]


def test_the_minimal_chat_stream_is_this() -> None:
    response = Response(
        (ToolCall("bash", '{"command": "echo hello"}', "call_1"),), usage=USAGE, model="M", id="c1"
    )
    body = re.sub(rb'"created":\d+', b'"created":1', written(CHAT, events_of(response)))
    head = '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"M",'
    lines = [
        head
        + '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}',
        head + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function",'
        '"function":{"name":"bash","arguments":""}}]},"logprobs":null,"finish_reason":null}]}',
        head + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
        r'"{\"command\": \"echo hello\"}"}}]},"logprobs":null,"finish_reason":null}]}',
        head + '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}',
        head + '"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}',
        "[DONE]",
    ]
    assert body.decode() == "".join(f"data: {line}\n\n" for line in lines)


def test_the_minimal_messages_stream_is_this() -> None:
    response = Response(
        (ToolCall("Bash", '{"command": "echo hello"}', "toolu_1"),), usage=USAGE, model="M", id="msg_1"
    )
    events = [
        '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"M","content":[],'
        '"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":5}}}',
        '{"type":"content_block_start","index":0,"content_block":'
        '{"type":"tool_use","id":"toolu_1","name":"Bash","input":{}}}',
        '{"type":"content_block_delta","index":0,"delta":'
        r'{"type":"input_json_delta","partial_json":"{\"command\": \"echo hello\"}"}}',
        '{"type":"content_block_stop","index":0}',
        '{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},'
        '"usage":{"input_tokens":10,"output_tokens":5}}',
        '{"type":"message_stop"}',
    ]
    expected = "".join(f"event: {msgspec.json.decode(event)['type']}\ndata: {event}\n\n" for event in events)
    assert written(ANTHROPIC, events_of(response)).decode() == expected


def test_usage_is_told_only_to_those_who_ask() -> None:
    events = list(events_of(Response((Text("a"),), usage=USAGE)))
    assert b"usage" not in written(CHAT, events, include_usage=False)
    assert b'"prompt_tokens":10' in written(CHAT, events)


def test_usage_that_nobody_counted_is_estimated_for_those_who_ask() -> None:
    body = written(CHAT, events_of(Response.of("x" * 40)))
    assert b'"usage":{"prompt_tokens":1,"completion_tokens":10,"total_tokens":11}' in body


def test_the_input_is_told_at_the_start_and_everything_at_the_end() -> None:
    start = ResponseStart(usage=Usage(input_tokens=10, output_tokens=1, cached_tokens=4))
    body = written(ANTHROPIC, [start, ResponseEnd(usage=Usage(input_tokens=12, output_tokens=7))])
    assert b'"usage":{"input_tokens":6,"cache_read_input_tokens":4,"output_tokens":1}' in body
    assert b'"usage":{"input_tokens":12,"output_tokens":7}' in body


def test_a_call_without_arguments_has_one_delta() -> None:
    events = [ResponseStart(), PartStart(0, ToolCall("ls", "")), PartEnd(0), ResponseEnd()]
    assert b'"partial_json":"{}"' in written(ANTHROPIC, events)
    assert b'{"arguments":"{}"}' in written(CHAT, events)


@pytest.mark.parametrize("arguments", ["[1]", "free text", '"a"'])
def test_arguments_that_are_no_object_reach_an_anthropic_agent_as_raw(arguments: str) -> None:
    body = written(ANTHROPIC, events_of(Response.of(ToolCall("ls", arguments))))
    blocks = [msgspec.json.decode(sse.data) for sse in SSEDecoder().feed(body)]
    text = "".join(
        block["delta"].get("partial_json", "") for block in blocks if block["type"] == "content_block_delta"
    )
    assert msgspec.json.decode(text) == {"_raw": arguments}


def test_parallel_calls_that_interleave_are_one_after_the_other_in_messages() -> None:
    events: list[Event] = [
        ResponseStart(), PartStart(0, ToolCall("a", "", "t0")), PartStart(1, ToolCall("b", "", "t1")),
        PartDelta(1, '{"y"'), PartDelta(0, '{"x":1}'), PartDelta(1, ":2}"), PartEnd(1), PartEnd(0),
        PartStart(2, Text("done")), PartEnd(2), ResponseEnd(),
    ]  # fmt: skip
    body = written(ANTHROPIC, events)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    second = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert kinds(body) == ["message_start", *block, *second, *block, "message_delta", "message_stop"]
    indices = [int(each) for each in re.findall(rb'_start","index":(\d)', body)]
    assert indices == [0, 1, 2]


def test_tool_calls_are_numbered_apart_from_other_parts() -> None:
    body = written(CHAT, events_of(Response.of(Reasoning("hm"), "a", ToolCall.of("x"), ToolCall.of("y"))))
    assert re.findall(rb'"index":(\d),"id"', body) == [b"0", b"1"]


def test_a_finish_reason_is_given_once() -> None:
    body = written(CHAT, events_of(Response.of("a", ToolCall.of("x"))))
    assert re.findall(rb'"finish_reason":"(\w+)"', body) == [b"tool_calls"]


def test_thinking_ends_with_a_signature_that_is_not_empty() -> None:
    body = written(ANTHROPIC, events_of(Response.of(Reasoning("hm"), "a")))
    assert b'{"type":"signature_delta","signature":"triocept-unsigned"}' in body
    signed = Reasoning("hm", (Blob(ANTHROPIC, "signature", "s"), Blob("gemini", "thought_signature", "g")))
    body = written(ANTHROPIC, events_of(Response.of(signed)))
    assert body.count(b"signature_delta") == 1
    assert b'"signature":"s"' in body


def test_redacted_thinking_is_a_block_of_its_own() -> None:
    part = Reasoning("", (Blob(ANTHROPIC, "redacted", "x"),))
    body = written(ANTHROPIC, events_of(Response.of(part)))
    assert kinds(body)[1:3] == ["content_block_start", "content_block_stop"]
    assert b'{"type":"redacted_thinking","data":"x"}' in body


def test_an_empty_text_is_no_block() -> None:
    assert kinds(written(ANTHROPIC, events_of(Response.of("")))) == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_a_refusal_is_words_and_a_reason_in_both() -> None:
    response = Response.of(RefusalText("no"))
    chat = written(CHAT, events_of(response))
    assert b'"refusal":"no"' in chat
    assert b'"finish_reason":"stop"' in chat
    assert b'"stop_reason":"refusal"' in written(ANTHROPIC, events_of(response))


def test_a_custom_tool_is_streamed_as_free_text() -> None:
    tools = (Tool(name="patch", kind="custom"),)
    body = written(CHAT, events_of(Response.of(ToolCall.of("patch", input="***"))), tools=tools)
    assert b'"custom":{"name":"patch","input":""}' in body
    assert b'{"index":0,"custom":{"input":"***"}}' in body
    assert b"function" not in body


def test_a_failure_ends_a_chat_stream_without_done() -> None:
    from triocept.dialects import Failure

    renderer = DIALECTS[CHAT].stream_renderer(asked(CHAT))
    body = renderer.render(ResponseStart()) + renderer.fail(Failure(status=500, message="boom"))
    assert b'data: {"error":{"message":"boom","type":"server_error"' in body
    assert b"[DONE]" not in body
    renderer = DIALECTS[ANTHROPIC].stream_renderer(asked(ANTHROPIC))
    assert renderer.fail(Failure(status=529, message="boom")).startswith(b"event: error\ndata: ")


def test_a_keepalive_before_the_start_does_not_change_the_id_later() -> None:
    renderer = DIALECTS[CHAT].stream_renderer(asked(CHAT))
    body = renderer.keepalive() + b"".join(
        renderer.render(event) for event in events_of(Response((), id="other"))
    )
    assert len(set(re.findall(rb'"id":"([^"]+)"', body))) == 1
    assert (
        DIALECTS[ANTHROPIC].stream_renderer(asked(ANTHROPIC)).keepalive()
        == b'event: ping\ndata: {"type":"ping"}\n\n'
    )


# What servers really send.

SIX = [call(0, "c1", "ls"), call(0, text='{"a"'), call(0, text=":1}")]


@pytest.mark.parametrize("fragments", [
    SIX,
    [call(0, "c1", "ls", '{"a":1}')],
    [call(None, "c1", "ls", '{"a":1}')],
    [call(None, "c1", "ls"), call(None, text='{"a":1}')],
    [call(0, "c1", "ls", '{"a"'), call(0, "c1", "ls", ":1}")],
    [call(None, "c1", "ls", '{"a"'), call(None, "c1", "ls", ":1}")],
    [call(0, "c1"), call(0, "c1", "ls", '{"a":1}')],
    [call(0, "c1", "ls", {"a": 1})],
    [call(3, "c1", "ls", '{"a":1}')],
])  # fmt: skip
def test_a_call_is_put_together_however_it_comes(fragments: list[Json]) -> None:
    chunks = [delta({"tool_calls": [fragment]}) for fragment in fragments]
    assert read(CHAT, *chunks, delta(reason="tool_calls")).content == (ToolCall("ls", '{"a":1}', "c1"),)


@pytest.mark.parametrize("fragments", [
    [call(0, "c1", "a", "{"), call(1, "c2", "b", "["), call(0, text="}"), call(1, text="]")],
    [call(0, "c1", "a", "{}"), call(0, "c2", "b", "[]")],
    [call(None, "c1", "a", "{}"), call(None, "c2", "b", "[]")],
    [call(None, "c1", "a", "{"), call(None, "c2", "b", "[]"), call(None, "c1", text="}")],
])  # fmt: skip
def test_parallel_calls_are_kept_apart(fragments: list[Json]) -> None:
    chunks = [delta({"tool_calls": [fragment]}) for fragment in fragments]
    content = read(CHAT, *chunks, delta(reason="tool_calls")).content
    assert content == (ToolCall("a", "{}", "c1"), ToolCall("b", "[]", "c2"))


@pytest.mark.parametrize("chunks", [
    [delta({"content": "a"}), delta({"content": "b"}, "stop")],
    [delta({"role": "assistant", "content": None}), delta({"content": "ab"}), delta(reason="stop")],
    [{"id": "", "choices": [], "prompt_filter_results": []}, delta({"content": "ab"}), delta(reason="stop")],
    [{"choices": [{"index": 0}]}, delta({"content": "ab"}), delta(reason="stop")],
    [delta({"content": "ab", "reasoning_content": None}, ""), delta(reason="stop")],
    [delta({"content": "ab", "tool_calls": None}), delta(reason="stop"), {"choices": [], "sglext": 1}],
    [delta({"content": [{"type": "text", "text": "ab"}]}), delta(reason="stop")],
])  # fmt: skip
def test_chunks_of_all_sorts_are_read(chunks: list[Json]) -> None:
    response = read(CHAT, *chunks)
    assert (response.content, response.stop_reason) == ((Text("ab"),), "end")


@pytest.mark.parametrize("done", [True, False])
def test_usage_may_come_behind_the_finish_and_done_may_be_missing(done: bool) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    response = read(CHAT, delta({"content": "a"}, "stop"), {"choices": [], "usage": usage}, done=done)
    assert response.usage == USAGE


def test_usage_in_every_chunk_counts_last() -> None:
    first = delta({"content": "a"}, usage={"prompt_tokens": 10, "completion_tokens": 1})
    last = delta(reason="stop", usage={"prompt_tokens": 10, "completion_tokens": 5})
    assert read(CHAT, first, last).usage == USAGE


def test_reasoning_then_text_are_two_parts() -> None:
    chunks = [
        delta({"reasoning_content": "h"}),
        delta({"reasoning_content": "m"}),
        delta({"content": "a"}, "stop"),
    ]
    assert read(CHAT, *chunks).content == (Reasoning("hm"), Text("a"))


def test_reasoning_details_are_kept_as_they_came() -> None:
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s"}
    chunks = [delta({"reasoning": "hm", "reasoning_details": [detail]}), delta({"content": "a"}, "stop")]
    response = read(CHAT, *chunks)
    assert response.content[0] == Reasoning(
        "hm",
        (Blob(CHAT, "reasoning_details", '{"type":"reasoning.text","text":"hm","signature":"s"}'),),
        {"field": "reasoning"},
    )
    body = written(CHAT, events_of(response))
    assert b'"reasoning":"hm"' in body
    assert b'"reasoning_details":[{"type":"reasoning.text"' in body


def test_log_probabilities_are_gathered_into_one_list() -> None:
    first, second = delta({"content": "a"}), delta({"content": "b"}, "stop")
    first["choices"][0]["logprobs"] = {"content": [{"token": "a"}]}
    second["choices"][0]["logprobs"] = {"content": [{"token": "b"}]}
    extra = read(CHAT, first, second).extra
    assert extra == {"choices": [{"logprobs": {"content": [{"token": "a"}, {"token": "b"}]}}]}


@pytest.mark.parametrize(("error", "kind"), [
    ({"error": {"message": "boom", "code": 500}}, UpstreamError),
    ({"error": "boom"}, UpstreamError),
    ({"object": "error", "message": "boom", "code": 500}, UpstreamError),
    ({"choices": [], "error": {"message": "boom"}}, UpstreamError),
    ({"error": {"message": "boom: maximum context length is 5 tokens"}}, ContextLengthError),
])  # fmt: skip
def test_an_error_in_a_chat_stream_is_a_failure(error: Json, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="boom"):
        read(CHAT, delta({"content": "a"}), error)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_unknown_reason_in_a_stream_is_a_failure(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        read(CHAT, delta({"content": "a"}, reason))


@pytest.mark.parametrize("done", [True, False])
def test_a_chat_stream_without_a_finish_is_truncated(done: bool) -> None:
    with pytest.raises(UpstreamTruncated):
        read(CHAT, delta({"content": "a"}), done=done)


def test_a_call_without_a_name_is_an_error_with_a_path() -> None:
    with pytest.raises(DialectError, match=r"choices\[0\].delta.tool_calls\[0\]"):
        read(CHAT, delta({"tool_calls": [call(0, "c1", None, "{}")]}), delta(reason="tool_calls"))


def start(index: int, **block: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int, kind: str, **fields: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stop(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


BEGIN = {
    "type": "message_start",
    "message": {"id": "m1", "model": "M", "content": [], "usage": {"input_tokens": 10, "output_tokens": 1}},
}


def ending(reason: str | None = "end_turn", **usage: Json) -> list[Json]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": usage or None}, {"type": "message_stop"}]


def test_messages_events_are_read() -> None:
    response = read(
        ANTHROPIC,
        BEGIN,
        {"type": "ping"},
        start(0, type="thinking", thinking="", signature=""),
        more(0, "thinking_delta", thinking="hm"),
        more(0, "signature_delta", signature="sig"),
        stop(0),
        start(1, type="text", text=""),
        more(1, "text_delta", text="a"),
        more(1, "citations_delta", citation={"cited_text": "c"}),
        {"type": "never_seen"},
        stop(1),
        start(2, type="tool_use", id="t1", name="ls", input={}),
        more(2, "input_json_delta", partial_json='{"a"'),
        more(2, "input_json_delta", partial_json=": 1}"),
        stop(2),
        *ending("tool_use", output_tokens=7, cache_read_input_tokens=3),
    )
    assert response == Response(
        (
            Reasoning("hm", (Blob(ANTHROPIC, "signature", "sig"),)),
            Text("a", {"citations": [{"cited_text": "c"}]}),
            ToolCall("ls", '{"a": 1}', "t1"),
        ),
        stop_reason="tool_use",
        usage=Usage(input_tokens=13, output_tokens=7, cached_tokens=3),
        model="M",
        id="m1",
        dialect=ANTHROPIC,
    )


def test_citations_go_through_a_stream() -> None:
    response = Response((Text("a", {"citations": [{"cited_text": "c"}]}),), dialect=ANTHROPIC)
    parser = DIALECTS[ANTHROPIC].stream_parser()
    events = parser.feed(written(ANTHROPIC, events_of(response)))
    assert assemble(events).content == response.content
    again = DIALECTS[ANTHROPIC].stream_parser().feed(written(ANTHROPIC, events))
    assert assemble(again).content == response.content


def test_a_block_that_nobody_knows_is_held_until_it_is_whole() -> None:
    blocks = [
        start(0, type="server_tool_use", id="s1", name="web_search", input={}),
        more(0, "input_json_delta", partial_json='{"query":'),
        more(0, "input_json_delta", partial_json='"x"}'),
        stop(0), start(1, type="compaction", content="a"), more(1, "compaction_delta", content="b"), stop(1),
    ]  # fmt: skip
    response = read(ANTHROPIC, BEGIN, *blocks, *ending())
    assert response.content == (
        Opaque(
            ANTHROPIC, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
        ),
        Opaque(ANTHROPIC, {"type": "compaction", "content": "ab"}),
    )
    assert b'"server_tool_use"' in written(ANTHROPIC, events_of(response))
    assert b"server_tool_use" not in written(CHAT, events_of(response))


def test_blocks_that_overlap_and_have_gaps_are_read() -> None:
    response = read(
        ANTHROPIC,
        BEGIN,
        start(1, type="tool_use", id="t1", name="a"),
        start(4, type="tool_use", id="t4", name="b", input={"whole": 1}),
        more(1, "input_json_delta", partial_json="{}"),
        stop(1),
        stop(4),
        *ending("tool_use"),
    )
    assert response.content == (ToolCall("a", "{}", "t1"), ToolCall("b", '{"whole":1}', "t4"))


def test_an_empty_signature_is_none() -> None:
    blocks = [start(0, type="thinking", thinking="hm"), more(0, "signature_delta", signature=""), stop(0)]
    assert read(ANTHROPIC, BEGIN, *blocks, *ending()).content == (Reasoning("hm"),)


def test_redacted_thinking_comes_whole() -> None:
    blocks = [start(0, type="redacted_thinking", data="x"), stop(0)]
    assert read(ANTHROPIC, BEGIN, *blocks, *ending()).content == (
        Reasoning("", (Blob(ANTHROPIC, "redacted", "x"),)),
    )


@pytest.mark.parametrize("tail", [[], ending()[:1], ending(None)])
def test_a_messages_stream_without_its_end_is_truncated(tail: list[Json]) -> None:
    with pytest.raises(UpstreamTruncated):
        read(ANTHROPIC, BEGIN, start(0, type="text", text="a"), stop(0), *tail)


def test_an_error_event_is_a_failure_with_the_status_of_its_type() -> None:
    with pytest.raises(UpstreamError, match="Overloaded") as caught:
        read(
            ANTHROPIC,
            BEGIN,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        )
    assert caught.value.status == 529


def test_the_events_of_a_chat_stream_are_these() -> None:
    parser = DIALECTS[CHAT].stream_parser()
    detail = {"type": "reasoning.encrypted", "data": "d"}
    chunk = msgspec.json.encode(delta({"reasoning_content": "h", "reasoning_details": [detail]}))
    events = parser.feed(b"data: " + chunk + b"\n\n")
    assert events == [
        ResponseStart(id="c1", model="M", dialect=CHAT),
        PartStart(0, Reasoning()),
        PartDelta(0, "h"),
        PartBlob(0, Blob(CHAT, "reasoning_details", '{"type":"reasoning.encrypted","data":"d"}')),
    ]


def test_the_annotations_of_a_text_join_those_that_it_began_with() -> None:
    blobs = [PartBlob(0, Blob("d", "citations", f'{{"n":{n}}}')) for n in (1, 2)]
    start = PartStart(0, Text("", {"citations": [{"n": 0}]}))
    (text,) = assemble([ResponseStart(), start, *blobs, PartEnd(0), ResponseEnd()]).content
    assert isinstance(text, Text)
    assert text.extra == {"citations": [{"n": 0}, {"n": 1}, {"n": 2}]}
