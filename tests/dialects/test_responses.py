"""One table of whole answers, read and written; stop reasons; usage."""

import time
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.chat import ChatCompletion

from triocept._canonical.content import Blob, Json, Message, Opaque, Reasoning, RefusalText, Text, ToolCall
from triocept._canonical.request import Request, Tool
from triocept._canonical.response import Response, StopReason, Usage
from triocept.dialects import DIALECTS
from triocept.errors import ContextLengthError, DialectError, UpstreamError

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"
SDK: dict[str, Any] = {CHAT: ChatCompletion, ANTHROPIC: AnthropicMessage}


def asked(dialect: str, **fields: Any) -> Request:
    return Request(dialect=dialect, model="m", messages=(Message("user", (Text("hi"),)),), **fields)


def chat(message: Json, reason: str = "stop", **fields: Json) -> Json:
    message = {"role": "assistant", "content": "", "refusal": None, **message}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields,
    }  # fmt: skip


def messages(content: Json, reason: str = "end_turn", **fields: Json) -> Json:
    usage = {"input_tokens": 1, "output_tokens": 1}
    least = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": content}
    return {**least, "stop_reason": reason, "stop_sequence": None, "usage": usage, **fields}


ONE = Usage(input_tokens=1, output_tokens=1)
CASES: list[tuple[str, Json, dict[str, Any]]] = [
    (CHAT, chat({"content": "hello"}), {"content": (Text("hello"),), "stop_reason": "end"}),
    (CHAT, chat({}), {"content": (), "stop_reason": "end"}),
    (CHAT, chat({"content": "hello", "reasoning_content": "hm"}, "length"),
     {"content": (Reasoning("hm"), Text("hello")), "stop_reason": "max_tokens"}),
    (CHAT, chat({"refusal": "no"}), {"content": (RefusalText("no"),), "stop_reason": "refused"}),
    (CHAT, chat({"content": "a"}, "content_filter"), {"stop_reason": "refused"}),
    (CHAT, chat({"content": None,
       "tool_calls": [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]},
      "tool_calls"), {"content": (ToolCall("ls", "{}", "c"),), "stop_reason": "tool_use"}),
    (CHAT, chat({"content": "a"}, usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
       "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
       "completion_tokens_details": {"reasoning_tokens": 3}, "cost": 0.5}),
     {"usage": Usage(input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=2,
       reasoning_tokens=3, extra={"cost": 0.5, "prompt_tokens_details": {"audio_tokens": 1}})}),
    (CHAT, chat({"content": "a", "annotations": [{"type": "url_citation"}]}, system_fingerprint="fp"),
     {"extra": {"system_fingerprint": "fp",
       "choices": [{"message": {"annotations": [{"type": "url_citation"}]}}]}}),
    (ANTHROPIC, messages([{"type": "text", "text": "hello"}]), {"content": (Text("hello"),), "usage": ONE}),
    (ANTHROPIC, messages([]), {"content": (), "stop_reason": "end"}),
    (ANTHROPIC, messages(
      [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "redacted_thinking", "data": "x"},
       {"type": "text", "text": "a", "citations": [{"type": "c"}]},
       {"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}}], "tool_use"),
     {"content": (Reasoning("hm", (Blob(ANTHROPIC, "signature", "sig"),)),
       Reasoning("", (Blob(ANTHROPIC, "redacted", "x"),)), Text("a", {"citations": [{"type": "c"}]}),
       ToolCall("ls", '{"a":1}', "t")), "stop_reason": "tool_use"}),
    (ANTHROPIC,
     messages([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}], "pause_turn"),
     {"content": (
       Opaque(ANTHROPIC, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),),
      "stop_reason": "paused"}),
    (ANTHROPIC, messages([{"type": "text", "text": "a"}], "stop_sequence", stop_sequence="END"),
     {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
    (ANTHROPIC, messages([{"type": "text", "text": "a"}],
      usage={"input_tokens": 4, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4,
       "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}, "service_tier": "standard"}),
     {"usage": Usage(input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=2,
       reasoning_tokens=3, extra={"service_tier": "standard"})}),
    (ANTHROPIC,
     messages([], "refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": "no"}),
     {"stop_reason": "refused",
      "extra": {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "no"}}}),
    (ANTHROPIC, messages([], "compaction"),
     {"stop_reason": "paused", "extra": {"stop_reason": "compaction"}}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "wire", "fields"), CASES)
def test_this_answer_is_read_and_written(dialect: str, wire: Json, fields: dict[str, Any]) -> None:
    codec = DIALECTS[dialect]
    response = codec.parse_response(wire)
    assert {name: getattr(response, name) for name in fields} == fields
    again = codec.render_response(response, asked(dialect))
    assert {**again, "created": 1} == {**wire, "created": 1}


@pytest.mark.parametrize("dialect", [CHAT, ANTHROPIC])
@pytest.mark.parametrize("response", [
    Response.of("hello"),
    Response.of(),
    Response.of(Reasoning("hm"), "a", ToolCall.of("ls", path="/"), ToolCall.of("ls")),
    Response.of(RefusalText("no")),
    Response.of("a", stop_reason="max_tokens"),
    Response.of(ToolCall("ls", "not JSON")),
    Response((Text("a"),),
     usage=Usage(input_tokens=5, output_tokens=2, cached_tokens=3, cache_write_tokens=1)),
])  # fmt: skip
def test_the_official_types_take_every_answer(dialect: str, response: Response) -> None:
    document = DIALECTS[dialect].render_response(response, asked(dialect))
    taken = SDK[dialect].model_validate(document, strict=False)
    assert taken.model == "m"
    assert taken.id


def test_an_answer_of_calls_only_has_null_content() -> None:
    document = DIALECTS[CHAT].render_response(Response.of(ToolCall.of("ls")), asked(CHAT))
    choice = document["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["id"].startswith("call_")
    assert choice["finish_reason"] == "tool_calls"
    assert abs(document["created"] - time.time()) < 60


def test_thinking_that_nobody_signed_is_written_with_a_signature() -> None:
    document = DIALECTS[ANTHROPIC].render_response(Response.of(Reasoning("hm"), "a"), asked(ANTHROPIC))
    assert document["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "triocept-unsigned"}
    assert DIALECTS[ANTHROPIC].parse_response(document).content == (Reasoning("hm"), Text("a"))


RENDERED: list[tuple[StopReason | None, str, str]] = [
    (None, "stop", "end_turn"),
    ("end", "stop", "end_turn"),
    ("stop_sequence", "stop", "stop_sequence"),
    ("max_tokens", "length", "max_tokens"),
    ("context_full", "length", "model_context_window_exceeded"),
    ("refused", "content_filter", "refusal"),
    ("paused", "stop", "pause_turn"),
]


@pytest.mark.parametrize(("stop", "of_chat", "of_messages"), RENDERED)
def test_stop_reasons_are_written_as_each_dialect_has_them(
    stop: StopReason | None, of_chat: str, of_messages: str
) -> None:
    response = Response.of("a", stop_reason=stop)
    chat_document = DIALECTS[CHAT].render_response(response, asked(CHAT))
    assert chat_document["choices"][0]["finish_reason"] == of_chat
    assert DIALECTS[ANTHROPIC].render_response(response, asked(ANTHROPIC))["stop_reason"] == of_messages


@pytest.mark.parametrize("reason", ["abort", "error", "network_error", "", None, 5])
def test_an_unknown_finish_reason_is_a_failure_not_an_end(reason: Any) -> None:
    with pytest.raises(UpstreamError):
        DIALECTS[CHAT].parse_response(chat({"content": "a"}, reason))
    with pytest.raises(UpstreamError):
        DIALECTS[ANTHROPIC].parse_response(messages([], reason))


def test_whether_it_is_a_tool_turn_is_decided_by_the_content() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]
    named = DIALECTS[CHAT].parse_response(chat({"tool_calls": calls}, "stop"))
    empty = DIALECTS[CHAT].parse_response(chat({"content": "a"}, "tool_calls"))
    assert (named.stop_reason, empty.stop_reason) == ("tool_use", "end")


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_servers_that_tell_which_stop_string_matched_are_believed(name: str) -> None:
    document = chat({"content": "a"})
    document["choices"][0][name] = "END"
    response = DIALECTS[CHAT].parse_response(document)
    assert (response.stop_reason, response.stop_sequence) == ("stop_sequence", "END")


def test_arguments_as_an_object_are_read_as_their_json() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": {"a": 1}}}]
    assert DIALECTS[CHAT].parse_response(chat({"tool_calls": calls})).tool_calls[0].arguments == '{"a":1}'


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="boom"):
        DIALECTS[CHAT].parse_response({"error": {"message": "boom", "code": 500}})
    with pytest.raises(ContextLengthError):
        DIALECTS[CHAT].parse_response({"error": {"message": "too long", "code": "context_length_exceeded"}})


@pytest.mark.parametrize(("dialect", "document", "path"), [
    (CHAT, {}, "choices"),
    (CHAT, {"choices": []}, "choices"),
    (CHAT, {"choices": [{"finish_reason": "stop"}]}, "choices[0].message"),
    (ANTHROPIC, {"content": 5, "stop_reason": "end_turn"}, "content"),
    (ANTHROPIC, {"content": [{"text": "a"}], "stop_reason": "end_turn"}, "content[0].type"),
])  # fmt: skip
def test_a_wrong_answer_gives_this_path(dialect: str, document: Json, path: str) -> None:
    with pytest.raises(DialectError) as caught:
        DIALECTS[dialect].parse_response(document)
    assert caught.value.path == path


def test_a_custom_tool_gets_free_text_whatever_the_call_was_made_as() -> None:
    tools = (Tool(name="patch", kind="custom"), Tool(name="ls"))
    request = asked(CHAT, tools=tools)
    response = Response.of(ToolCall.of("patch", input="***"), ToolCall("ls", "free", kind="text"))
    first, second = DIALECTS[CHAT].render_response(response, request)["choices"][0]["message"]["tool_calls"]
    assert first["custom"] == {"name": "patch", "input": "***"}
    assert second["function"] == {"name": "ls", "arguments": '{"input":"free"}'}


def test_usage_that_nobody_counted_is_left_out_or_estimated() -> None:
    response = Response.of("hello world")
    assert "usage" not in DIALECTS[CHAT].render_response(response, asked(CHAT))
    usage = DIALECTS[ANTHROPIC].render_response(response, asked(ANTHROPIC))["usage"]
    assert usage == {"input_tokens": 1, "output_tokens": 2}


def test_more_cached_tokens_than_there_are_do_not_make_a_negative_number() -> None:
    usage = Usage(input_tokens=3, output_tokens=1, cached_tokens=5)
    document = DIALECTS[ANTHROPIC].render_response(Response((), usage=usage), asked(ANTHROPIC))
    assert document["usage"]["input_tokens"] == 0


@pytest.mark.parametrize(("wire", "usage"), [
    ({"completion_tokens": 2, "total_tokens": 7}, Usage(input_tokens=5, output_tokens=2)),
    ({"prompt_tokens": 5, "total_tokens": 7}, Usage(input_tokens=5, output_tokens=2)),
    ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 3},
     Usage(input_tokens=5, output_tokens=2, cached_tokens=3)),
    ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None},
     Usage(input_tokens=5, output_tokens=2)),
    ({"prompt_tokens": -1, "completion_tokens": 1e300}, None),
    ({"prompt_tokens": 5, "completion_tokens": -1}, Usage(input_tokens=5, output_tokens=0)),
    ({"prompt_tokens": 10**400, "completion_tokens": 2}, Usage(input_tokens=0, output_tokens=2)),
    ({}, None),
    (None, None),
])  # fmt: skip
def test_usage_of_all_sorts_is_read(wire: Json, usage: Usage | None) -> None:
    assert DIALECTS[CHAT].parse_response(chat({"content": "a"}, usage=wire)).usage == usage
