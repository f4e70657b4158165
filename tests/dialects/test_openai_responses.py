"""Responses, whole: requests, tools, answers, errors and the side routes."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response as SDKResponse
from openai.types.responses import ResponseItemList

from triocept._canonical import memory
from triocept._canonical.content import (
    Blob,
    Json,
    Media,
    Message,
    Opaque,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.events import events_of
from triocept._canonical.form import message_key
from triocept._canonical.memory import Memory
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.kit import OVERFLOW
from triocept.dialects.openai_responses.response import render_ws_error
from triocept.dialects.openai_responses.side import (
    continued,
    is_warm_up,
    render_input_items,
    render_stored,
    render_stored_events,
)
from triocept.dialects.openai_responses.tools import is_from_codex
from triocept.errors import ContextLengthError, DialectError, UpstreamError

NAME, CHAT, ANTHROPIC = "openai_responses", "openai_chat", "anthropic_messages"
RESPONSES = DIALECTS[NAME]
PNG = "iVBORw0KGgo="
USER: Json = {"type": "message", "role": "user", "content": "hi"}
MARK = {"field": "instructions"}


def parsed(*items: Json, **fields: Json) -> Request:
    return RESPONSES.parse_request({"model": "m", "input": list(items) or [USER], **fields})


def rewritten(*items: Json, **fields: Json) -> Json:
    return RESPONSES.render_request(parsed(*items, **fields))


def answered(*parts: Any, **fields: Any) -> Json:
    request = fields.pop("request", None) or parsed()
    return RESPONSES.render_response(Response(parts, **fields), request)


def call(identity: str = "c1", name: str = "ls", **fields: Json) -> Json:
    return {"type": "function_call", "call_id": identity, "name": name, "arguments": "{}", **fields}


# Each is read as these messages, and they are written as it.
ITEMS: list[tuple[list[Json], tuple[Message, ...]]] = [
    ([USER], (Message("user", (Text("hi"),)),)),
    ([{"type": "message", "role": "user", "content": ""}], (Message("user"),)),
    ([{"type": "message", "role": "developer", "content": "be terse"}],
     (Message("developer", (Text("be terse"),)),)),
    ([{"type": "message", "role": "user", "content": "hi", "id": "msg_1", "status": "completed"}],
     (Message("user", (Text("hi"),), extra={"id": "msg_1", "status": "completed"}),)),
    ([{"type": "message", "role": "user",
       "content": [{"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "https://e.org/a", "detail": "low"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://e.org/a.pdf"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "input_video", "video": "v"}]}],
     (Message("user", (Text("see"), Media(kind="image", url="https://e.org/a", extra={"detail": "low"}),
        Media(kind="image", data=PNG, media_type="image/png"),
        Media(kind="image", extra={"file_id": "file-1"}), Media(kind="file", url="https://e.org/a.pdf"),
        Media(kind="file", data="JVBE", media_type="application/pdf", name="a.pdf"),
        Media(kind="audio", data="AAAA", media_type="audio/wav"),
        Opaque(NAME, {"type": "input_video", "video": "v"}))),)),
    # two texts in one item, with a phase
    ([{"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary",
       "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "file_path"}]},
        {"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "no"}]}],
     (Message("assistant", (Text("a", {"item": {"id": "msg_1", "status": "completed", "phase": "commentary"},
          "annotations": [{"type": "file_path"}]}), Text("b", {"content_index": 1}),
        RefusalText("no", {"content_index": 2}))),)),
    # what the model wrote is one message, until somebody else speaks
    ([{"type": "reasoning", "id": "rs_1",
       "summary": [{"type": "summary_text", "text": "s1"}, {"type": "summary_text", "text": "s2"}],
       "content": [{"type": "reasoning_text", "text": "c"}], "encrypted_content": "gAAA"},
      {"type": "message", "role": "assistant",
       "content": [{"type": "output_text", "text": "one", "annotations": []}]},
      {"type": "message", "role": "assistant",
       "content": [{"type": "output_text", "text": "two", "annotations": []}]},
      call(id="fc_1", status="completed", namespace="ns"),
      {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "***"},
      {"type": "local_shell_call", "call_id": "c3", "action": {"command": ["ls"]}},
      {"type": "function_call_output", "call_id": "c1", "output": "out"},
      {"type": "custom_tool_call_output", "call_id": "c2", "output": "done", "id": "x"},
      {"type": "local_shell_call_output", "call_id": "c3", "output": "o"}],
     (Message("assistant",
       (Reasoning("s1", extra={"item": {"id": "rs_1"}}), Reasoning("s2", extra={"summary_index": 1}),
        Reasoning("c", (Blob(NAME, "encrypted_content", "gAAA"),), {"content_index": 0}), Text("one"),
        Text("two"),
        ToolCall("ls", "{}", "c1", extra={"id": "fc_1", "status": "completed", "namespace": "ns"}),
        ToolCall("patch", "***", "c2", "text"),
        Opaque(NAME, {"type": "local_shell_call", "call_id": "c3", "action": {"command": ["ls"]}}))),
      Message("tool", (ToolResult(id="c1", content=(Text("out"),)),)),
      Message("tool",
       (ToolResult(id="c2", content=(Text("done"),), extra={"type": "custom_tool_call_output", "id": "x"}),)),
      Message("tool", (Opaque(NAME, {"type": "local_shell_call_output", "call_id": "c3", "output": "o"}),),
       extra={"item": "local_shell_call_output"}))),
    ([{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "c"}]},
      {"type": "reasoning", "summary": [], "encrypted_content": "e"}],
     (Message("assistant", (Reasoning("c", extra={"item": {}, "content_index": 0}),
        Reasoning("", (Blob(NAME, "encrypted_content", "e"),)))),)),
    ([{"type": "function_call_output", "call_id": "c1",
       "output": [{"type": "input_text", "text": "see", "x": 1},
        {"type": "input_image", "image_url": "https://e.org/a"}, {"type": "encrypted", "data": "d"}]}],
     (Message("tool",
       (ToolResult(id="c1", content=(Text("see", {"x": 1}), Media(kind="image", url="https://e.org/a"),
          Opaque(NAME, {"type": "encrypted", "data": "d"}))),)),)),
    ([{"type": "compaction_trigger"}, {"type": "agent_message", "content": [{"type": "encrypted"}]}],
     (Message("user", (Opaque(NAME, {"type": "compaction_trigger"}),), extra={"item": "compaction_trigger"}),
      Message("user", (Opaque(NAME, {"type": "agent_message", "content": [{"type": "encrypted"}]}),
        Text("[a message from another agent that only its own provider can read]")),
       extra={"item": "agent_message"}))),
]  # fmt: skip


@pytest.mark.parametrize(("items", "messages"), ITEMS)
def test_these_items_are_read_and_written(items: list[Json], messages: tuple[Message, ...]) -> None:
    request = parsed(*items)
    assert request.messages == messages
    assert RESPONSES.render_request(request)["input"] == items


@pytest.mark.parametrize("kind", [
    "shell_call", "apply_patch_call", "tool_search_call", "item_reference", "compaction", "mcp_call",
    "mcp_list_tools", "web_search_call", "image_generation_call", "code_interpreter_call", "program",
    "program_output", "shell_call_output", "apply_patch_call_output", "tool_search_output",
    "additional_tools", "configuration_update", "something_new",
])  # fmt: skip
def test_an_item_of_any_type_is_kept_whole_and_in_its_place(kind: str) -> None:
    item = {"type": kind, "id": "i", "content": [1, {"a": None}]}
    assert rewritten(USER, call(), item, USER)["input"] == [USER, call(), item, USER]


def test_a_string_is_the_users_message() -> None:
    request = RESPONSES.parse_request({"model": "m", "input": "hi"})
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert RESPONSES.render_request(request)["input"] == [USER]


def test_an_item_without_a_type_is_a_message() -> None:
    assert rewritten({"role": "user", "content": "hi"})["input"] == [USER]


def test_instructions_are_a_system_message_and_go_back_to_their_place() -> None:
    system = {"type": "message", "role": "system", "content": "second"}
    request = parsed(system, USER, instructions="first")
    assert request.messages[:2] == (
        Message("system", (Text("first"),), extra=MARK),
        Message("system", (Text("second"),)),
    )
    assert request.system == "first\n\nsecond"
    document = RESPONSES.render_request(request)
    assert (document["instructions"], document["input"]) == ("first", [system, USER])


@pytest.mark.parametrize("text", [None, ""])
def test_instructions_that_say_nothing_are_none(text: str | None) -> None:
    assert parsed(instructions=text).messages == parsed().messages


def test_what_was_sent_before_is_not_read_again() -> None:
    memory, before = (
        Memory(),
        [USER, call(), {"type": "function_call_output", "call_id": "c1", "output": "o"}],
    )
    fields = {"model": "m", "instructions": "be", "tools": [FUNCTION, SPACE]}
    first = RESPONSES.parse_request({**fields, "input": before}, memory=memory)
    again = RESPONSES.parse_request({**fields, "input": [*before, call("c2"), USER]}, memory=memory)
    assert all(new is old for new, old in zip(again.messages, first.messages, strict=False))
    assert all(new is old for new, old in zip(again.tools, first.tools, strict=True))
    assert again == RESPONSES.parse_request({**fields, "input": [*before, call("c2"), USER]})
    more = {
        **fields,
        "tools": [FUNCTION, SPACE, OTHER],
        "input": [USER, call("c1", "search", namespace="web")],
    }
    RESPONSES.parse_request({**more, "tools": [FUNCTION, OTHER]}, memory=memory)
    assert RESPONSES.parse_request(more, memory=memory) == RESPONSES.parse_request(more)


FIELDS: list[tuple[dict[str, Json], dict[str, Any]]] = [
    ({"max_output_tokens": 9, "temperature": 2, "top_p": 0.5},
     {"sampling": Sampling(max_output_tokens=9, temperature=2, top_p=0.5)}),
    ({"stop": ["a"], "seed": 1, "top_k": 3, "presence_penalty": 0.5},
     {"sampling": Sampling(stop=("a",), seed=1, top_k=3, presence_penalty=0.5)}),
    ({"stream": True}, {"stream": True}),
    ({"previous_response_id": "resp_1"}, {"previous_response": "resp_1"}),
    ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ({"user": "u"}, {"user": "u"}),
    ({"reasoning": {"effort": "low", "summary": "auto"}},
     {"reasoning": ReasoningAsk(effort="low"), "extra": {"reasoning": {"summary": "auto"}}}),
    ({"reasoning": {"summary": "auto"}}, {"reasoning": None, "extra": {"reasoning": {"summary": "auto"}}}),
    ({"text": {"verbosity": "low"}}, {"output_format": None, "extra": {"text": {"verbosity": "low"}}}),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "description": "d"},
       "verbosity": "low"}},
     {"output_format": OutputFormat(kind="json_schema", name="n", schema={"a": 1},
       extra={"description": "d"}), "extra": {"text": {"verbosity": "low"}}}),
    ({"text": {"format": {"type": "json_object"}}}, {"output_format": OutputFormat(kind="json_object")}),
    ({"text": {"format": {"type": "grammar"}}},
     {"output_format": None, "extra": {"text": {"format": {"type": "grammar"}}}}),
    ({"tool_choice": "required"}, {"tool_choice": ToolChoice(mode="required")}),
    ({"tool_choice": "later"}, {"tool_choice": ToolChoice(extra={"tool_choice": "later"})}),
    ({"tool_choice": {"type": "function", "name": "f"}}, {"tool_choice": ToolChoice(mode="tool", name="f")}),
    ({"tool_choice": {"type": "custom", "name": "f"}},
     {"tool_choice": ToolChoice(mode="tool", name="f", extra={"type": "custom", "name": "f"})}),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
     {"tool_choice": ToolChoice(extra={"type": "allowed_tools", "mode": "auto", "tools": []})}),
    ({"tool_choice": {"type": "web_search"}},
     {"tool_choice": ToolChoice(mode="required", extra={"type": "web_search"})}),
    ({"store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
      "truncation": "auto"},
     {"extra": {"store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
       "truncation": "auto"}}),
    ({"client_metadata": {"x-codex-window-id": "w"}},
     {"extra": {"client_metadata": {"x-codex-window-id": "w"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "fields"), FIELDS)
def test_this_field_is_read_and_written(wire: dict[str, Json], fields: dict[str, Any]) -> None:
    request = parsed(**wire)
    assert {name: getattr(request, name) for name in fields} == fields
    assert RESPONSES.render_request(request) == {"model": "m", "input": [USER], **wire}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"input": "hi"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": 1}, "input"),
        ({"model": "m", "input": [1]}, "input[0]"),
        ({"model": "m", "input": [{"content": "hi"}]}, "input[0].type"),
        ({"model": "m", "input": [{"type": "message", "content": "hi"}]}, "input[0].role"),
        ({"model": "m", "input": [{"role": "robot", "content": "hi"}]}, "input[0].role"),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
         "input[0].content[0].text"),
        ({"model": "m", "input": [{"role": "user", "content": [{"text": "a"}]}]}, "input[0].content[0].type"),
        ({"model": "m", "input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"model": "m", "input": [{"type": "function_call_output", "output": 1}]}, "input[0].output"),
        ({"model": "m", "input": [{"type": "reasoning", "summary": [{"text": 1}]}]}, "input[0].summary[0].text"),
        ({"model": "m", "input": "hi", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "m", "input": "hi", "tools": [{}]}, "tools[0].type"),
        ({"model": "m", "input": "hi", "tools": [{"type": "namespace", "name": "n", "tools": [1]}]},
         "tools[0].tools[0]"),
        ({"model": "m", "input": [{"type": "additional_tools", "tools": [1]}]}, "input[0].tools[0]"),
        ({"model": "m", "input": "hi", "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"model": "m", "input": "hi", "text": {"format": {}}}, "text.format.type"),
        ({"model": "m", "input": "hi", "instructions": 1}, "instructions"),
        ({"model": "m", "input": "hi", "stream": "yes"}, "stream"),
    ],
)  # fmt: skip
def test_a_wrong_document_gives_this_path(document: Json, path: str) -> None:
    with pytest.raises(DialectError) as caught:
        RESPONSES.parse_request(document)
    assert caught.value.path == path


def test_nothing_new_may_be_said_to_an_earlier_response() -> None:
    request = RESPONSES.parse_request({"model": "m", "input": [], "previous_response_id": "r"})
    assert request.messages == ()
    assert RESPONSES.render_request(request) == {"model": "m", "input": [], "previous_response_id": "r"}


def test_a_frame_of_the_websocket_is_a_request() -> None:
    request = parsed(type="response.create", generate=False, store=False, stream=True)
    assert is_warm_up(request)
    assert request.extra == {"generate": False, "store": False}
    assert not is_warm_up(parsed())


FUNCTION = {
    "type": "function",
    "name": "ls",
    "description": "d",
    "parameters": {"type": "object"},
    "strict": False,
}
SEARCH = {"type": "function", "name": "search", "parameters": {"type": "object"}}
CUSTOM = {"type": "custom", "name": "patch", "description": "p", "format": {"type": "text"}}
SPACE = {
    "type": "namespace",
    "name": "agents",
    "description": "n",
    "tools": [SEARCH, {**CUSTOM, "name": "say"}],
}
OTHER = {"type": "namespace", "name": "web", "description": "w", "tools": [SEARCH]}


def test_tools_of_every_kind_are_read_and_written() -> None:
    tools = [FUNCTION, CUSTOM, SPACE, {"type": "web_search"}, {"type": "namespace", "name": "e", "tools": []}]
    request = parsed(tools=tools)
    assert [(tool.name, tool.kind) for tool in request.tools] == [
        ("ls", "function"), ("patch", "custom"), ("search", "function"), ("say", "custom"), ("", "server"),
        ("e", "server"),
    ]  # fmt: skip
    header = {"type": "namespace", "name": "agents", "description": "n"}
    assert request.tools[2] == Tool(
        name="search",
        parameters={"type": "object"},
        extra={"namespace": {name: header[name] for name in ("name", "description")}},
    )
    assert RESPONSES.render_request(request)["tools"] == tools


def test_a_call_of_a_tool_in_a_namespace_gets_its_namespace_back() -> None:
    request = parsed(tools=[FUNCTION, SPACE])
    for dialect in ("", CHAT):
        response = Response((ToolCall.of("search", q=1), ToolCall.of("ls")), dialect=dialect)
        search, ls = RESPONSES.render_response(response, request)["output"]
        assert (search["namespace"], search["name"]) == ("agents", "search")
        assert "namespace" not in ls


def test_tools_of_one_name_are_told_apart_by_their_namespaces() -> None:
    request = parsed(
        USER, call("c1", "search", namespace="web"), call("c2", "search"), tools=[SEARCH, SPACE, OTHER]
    )
    assert [tool.name for tool in request.tools] == ["search", "agents__search", "say", "web__search"]
    assert [each.name for each in request.messages[-1].tool_calls] == ["web__search", "search"]
    document = RESPONSES.render_request(request)
    assert document["tools"] == [SEARCH, SPACE, OTHER]
    assert document["input"][1:] == [call("c1", "search", namespace="web"), call("c2", "search")]
    chat = DIALECTS[CHAT].render_request(request)
    names = [tool["function"]["name"] for tool in chat["tools"] if tool["type"] == "function"]
    assert len(set(names)) == len(names) == 3
    response = Response((ToolCall.of("web__search"),), dialect=CHAT)
    (item,) = RESPONSES.render_response(response, request)["output"]
    assert (item["namespace"], item["name"]) == ("web", "search")


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_tools_that_items_declare_are_tools_and_are_not_written_twice(kind: str) -> None:
    item = {"type": kind, "role": "developer", "tools": [SPACE, FUNCTION]}
    request = parsed(item, USER, tools=[FUNCTION])
    assert [tool.name for tool in request.tools] == ["ls", "search", "say"]
    assert RESPONSES.render_request(request) == {"model": "m", "input": [item, USER], "tools": [FUNCTION]}
    (found,) = RESPONSES.render_response(Response.of(ToolCall.of("search")), request)["output"]
    assert found["namespace"] == "agents"
    sent = DIALECTS[ANTHROPIC].render_request(request)["tools"]
    assert [tool["name"] for tool in sent] == ["ls", "search", "say"]


def test_a_custom_tool_gets_free_text_whatever_the_call_was_made_as() -> None:
    request = parsed(tools=[CUSTOM, FUNCTION])
    response = Response((ToolCall.of("patch", input="***"), ToolCall("ls", "free", kind="text")))
    patch, ls = RESPONSES.render_response(response, request)["output"]
    assert (patch["type"], patch["input"]) == ("custom_tool_call", "***")
    assert (ls["type"], ls["arguments"]) == ("function_call", '{"input":"free"}')


CODEX: Json = {
    "model": "gpt",
    "instructions": "",
    "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "base"}]},
     {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix"}]},
     {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
     {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "on it"}],
      "phase": "commentary"},
     {"type": "function_call", "name": "exec_command", "arguments": '{"cmd":"ls"}', "call_id": "call_1"},
     {"type": "function_call_output", "call_id": "call_1", "output": "out"}],
    "tools": [{**FUNCTION, "name": "exec_command"}, SPACE, {"type": "web_search"}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "thread",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "i"},
}  # fmt: skip


def test_a_request_of_codex_is_read_and_known_as_such() -> None:
    request = RESPONSES.parse_request(CODEX)
    assert [message.role for message in request.messages] == ["developer", "user", "assistant", "tool"]
    assert is_from_codex(request)
    assert not is_from_codex(parsed())
    document = RESPONSES.render_request(request)
    same = CODEX.keys() - {"instructions", "input"}
    assert {name: document[name] for name in same} == {name: CODEX[name] for name in same}
    assert [item["type"] for item in document["input"]] == [item["type"] for item in CODEX["input"]]


@pytest.mark.parametrize("with_ids", [True, False])
def test_an_answer_that_comes_back_is_the_message_that_it_was(with_ids: bool) -> None:
    request = parsed(tools=[SPACE])
    calls = (ToolCall("search", "{}", "c1"), ToolCall("say", "x", "c2", "text"))
    response = Response((Reasoning("hm"), Text("a"), Text("b"), *calls))
    items = RESPONSES.render_response(response, request)["output"]
    if not with_ids:
        items = [{k: v for k, v in item.items() if k not in ("id", "status")} for item in items]
    again = parsed(
        USER, *items, {"type": "function_call_output", "call_id": "c1", "output": ""}, tools=[SPACE]
    )
    assert message_key(again.messages[1]) == message_key(Message("assistant", response.content))
    assert RESPONSES.render_request(again)["input"][2]["content"][0]["text"] == "a"


# Each answer is read as these fields, and they are written as it.
ANSWERS: list[tuple[dict[str, Json], dict[str, Any]]] = [
    ({"output": [
       {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer",
        "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]}]},
     {"content": (Text("hi", {"item": {"id": "msg_1", "phase": "final_answer"}}),), "stop_reason": "end"}),
    ({"output": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
       {**call(), "id": "fc_1", "status": "completed", "namespace": "n"},
       {"type": "web_search_call", "id": "ws_1", "status": "completed"}], "service_tier": "flex",
      "end_turn": False},
     {"content": (Reasoning("", (Blob(NAME, "encrypted_content", "e"),), {"item": {"id": "rs_1"}}),
       ToolCall("ls", "{}", "c1", extra={"id": "fc_1", "namespace": "n"}),
       Opaque(NAME, {"type": "web_search_call", "id": "ws_1", "status": "completed"})),
      "stop_reason": "tool_use", "extra": {"service_tier": "flex", "end_turn": False}}),
    ({"output": [], "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
     {"content": (), "stop_reason": "max_tokens"}),
    ({"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
     {"content": (), "stop_reason": "refused"}),
    ({"output": [], "status": "incomplete", "incomplete_details": {"reason": "steered"}},
     {"stop_reason": "paused", "extra": {"status": "incomplete", "incomplete_details": {"reason": "steered"}}}),
    ({"output": [], "usage": {"input_tokens": 10,
       "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "x": 1}, "output_tokens": 5,
       "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 15}},
     {"usage": Usage(input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=2,
       reasoning_tokens=3, extra={"input_tokens_details": {"x": 1}})}),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "fields"), ANSWERS)
def test_this_answer_is_read_and_written(wire: dict[str, Json], fields: dict[str, Any]) -> None:
    document = {"id": "resp_1", "object": "response", "model": "M", "status": "completed", **wire}
    response = RESPONSES.parse_response(document)
    assert {name: getattr(response, name) for name in fields} == fields
    again = RESPONSES.render_response(response, parsed())
    assert {name: again[name] for name in document} == document


USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
ANYTHING = [
    Response(()),
    Response.of("hello"),
    Response((Reasoning("hm", (Blob(ANTHROPIC, "signature", "S"),)), Text("a")), usage=USAGE),
    Response((ToolCall.of("ls"), ToolCall("patch", "x", kind="text")), stop_reason="max_tokens"),
    Response((RefusalText("no"),), stop_reason="refused"),
    Response((Text("a", {"annotations": [{"type": "file_path", "file_id": "f", "index": 0}]}),)),
]


@pytest.mark.parametrize("response", ANYTHING)
def test_the_official_types_take_every_answer(response: Response) -> None:
    request = parsed(instructions="be", tools=[FUNCTION, CUSTOM], metadata={"a": "b"})
    document = RESPONSES.render_response(response, request)
    SDKResponse.model_validate(document)
    assert (document["instructions"], document["metadata"]) == ("be", {"a": "b"})
    assert (document["model"], document["id"][:5], document["tools"]) == ("m", "resp_", [FUNCTION, CUSTOM])


@pytest.mark.parametrize(("stop", "parts", "status", "reason"), [
    (None, ("a",), "completed", None),
    ("stop_sequence", ("a",), "completed", None),
    ("tool_use", (ToolCall.of("ls"),), "completed", None),
    ("max_tokens", ("a",), "incomplete", "max_output_tokens"),
    ("context_full", ("a",), "incomplete", "max_output_tokens"),
    ("refused", ("a",), "incomplete", "content_filter"),
    ("refused", (RefusalText("no"),), "completed", None),
    ("paused", ("a",), "completed", None),
])  # fmt: skip
def test_stop_reasons_are_written_so_and_codex_is_told_completed(
    stop: Any, parts: Any, status: str, reason: str | None
) -> None:
    response = Response.of(*parts, stop_reason=stop)
    document = RESPONSES.render_response(response, parsed())
    assert (document["status"], document["incomplete_details"]) == (status, reason and {"reason": reason})
    to_codex = RESPONSES.render_response(response, parsed(client_metadata={}))
    assert (to_codex["status"], to_codex["incomplete_details"]) == ("completed", None)


@pytest.mark.parametrize("ending", [
    {"status": "in_progress"},
    {"status": "queued"},
    {"status": "failed"},
    {},
    {"status": "incomplete"},
    {"status": "incomplete", "incomplete_details": {"reason": "who knows"}},
])  # fmt: skip
def test_an_answer_that_is_not_finished_is_a_failure(ending: Json) -> None:
    with pytest.raises(UpstreamError, match="unknown to Responses"):
        RESPONSES.parse_response({"id": "r", "output": [], **ending})


def test_a_cancelled_answer_is_one_that_its_server_has_aborted() -> None:
    with pytest.raises(UpstreamError, match="aborted its answer") as raised:
        RESPONSES.parse_response({"id": "r", "output": [], "status": "cancelled"})
    assert raised.value.code == "abort"


def test_a_refusal_in_words_is_one() -> None:
    document = answered(RefusalText("no"))
    assert RESPONSES.parse_response(document).stop_reason == "refused"


@pytest.mark.parametrize(("arguments", "status"), [('{"a": ', "incomplete"), ('{"a": 1}', "completed")])
def test_a_last_call_that_the_cap_cut_is_marked(arguments: str, status: str) -> None:
    document = answered(ToolCall.of("ls"), ToolCall("ls", arguments), stop_reason="max_tokens")
    assert [item["status"] for item in document["output"]] == ["completed", status]


def test_usage_has_all_numbers_and_is_estimated_where_nobody_counted() -> None:
    assert answered(Text("x" * 40))["usage"] == {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    }


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (None, None),
        ({}, None),
        ({"input_tokens": None, "total_tokens": 3}, None),
        ({"input_tokens": 1, "output_tokens": 2, "input_tokens_details": None}, Usage(input_tokens=1, output_tokens=2)),
        ({"output_tokens": 2, "total_tokens": 5}, Usage(input_tokens=3, output_tokens=2)),
    ],
)  # fmt: skip
def test_usage_of_all_sorts_is_read(wire: Json, usage: Usage | None) -> None:
    document = {"status": "completed", "output": [], "usage": wire}
    assert RESPONSES.parse_response(document).usage == usage


def test_arguments_as_an_object_are_read_as_their_json() -> None:
    item = {**call(), "arguments": {"a": 1}}
    (found,) = RESPONSES.parse_response({"status": "completed", "output": [item]}).tool_calls
    assert found.arguments == '{"a":1}'


def test_what_others_signed_goes_to_the_agent_and_comes_back() -> None:
    signed = (Blob(ANTHROPIC, "signature", "S"),)
    items = RESPONSES.render_response(
        Response((Reasoning("hm", signed), Text("a")), dialect=ANTHROPIC), parsed()
    )
    request = parsed(USER, *items["output"])
    assert request.messages[1].content[0].blobs == signed  # type: ignore[union-attr]
    blocks = DIALECTS[ANTHROPIC].render_request(request)["messages"][1]["content"]
    assert blocks[0] == {"type": "thinking", "thinking": "hm", "signature": "S"}
    assert [item["type"] for item in RESPONSES.render_request(request)["input"]] == ["message", "message"]


@pytest.mark.parametrize(
    "text", ["dHJpb2NlcHQtYmxvYnM6!", "dHJpb2NlcHQtYmxvYnM6e30=", "dHJpb2NlcHQtYmxvYnM6bm8="]
)
def test_encrypted_content_that_only_looks_like_ours_is_carried(text: str) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": text}
    assert rewritten(USER, item)["input"] == [USER, item]


def of_chat(*messages: Json, **fields: Json) -> Json:
    request = DIALECTS[CHAT].parse_request({"model": "m", "messages": list(messages), **fields})
    return RESPONSES.render_request(request)


def test_a_request_of_another_dialect_is_legal_here() -> None:
    document = of_chat(
        {"role": "system", "content": "be terse"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org/a"}}]},
        {
            "role": "assistant", "content": "ok", "reasoning_content": "hm",
            "tool_calls": [
                {"id": "x" * 65, "type": "function", "function": {"name": "ls", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "***"}},
            ],
        },
        {"role": "tool", "tool_call_id": "x" * 65, "content": "out"},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
        tools=[
            {"type": "function", "function": {"name": "ls"}},
            {"type": "custom", "custom": {"name": "patch"}},
        ],
        max_completion_tokens=9, stop=["a"], reasoning_effort="low", user="u" * 65, service_tier="flex",
    )  # fmt: skip
    long = document["input"][2]["call_id"]
    assert long.startswith("call_")
    assert len(long) <= 64
    assert document == {
        "model": "m", "instructions": "be terse",
        "input": [
            {
                "type": "message", "role": "user",
                "content": [{"type": "input_image", "image_url": "https://e.org/a", "detail": "auto"}],
            },
            {
                "type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "ok", "annotations": []}],
            },
            {"type": "function_call", "call_id": long, "name": "ls", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "***"},
            {"type": "function_call_output", "call_id": long, "output": "out"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        ],
        "tools": [
            {
                "type": "function", "name": "ls",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
            {"type": "custom", "name": "patch"},
        ],
        "max_output_tokens": 9, "reasoning": {"effort": "low"}, "store": False,
    }  # fmt: skip


def test_an_error_of_a_tool_is_said_in_words() -> None:
    result = ToolResult(id="c", content=(Text("oops"),), is_error=True)
    request = Request(dialect=ANTHROPIC, model="m", messages=(Message("user", (result, Text("go on"))),))
    assert RESPONSES.render_request(request)["input"] == [
        {"type": "function_call_output", "call_id": "c", "output": "Error: oops"},
        {"type": "message", "role": "user", "content": "go on"},
    ]


def test_an_empty_id_is_the_same_in_call_and_result() -> None:
    messages = (Message("assistant", (ToolCall("ls"),)), Message("tool", (ToolResult(id=""),)))
    request = Request(dialect=CHAT, model="m", messages=messages)
    first, second = RESPONSES.render_request(request)["input"]
    assert first["call_id"] == second["call_id"] != ""


def test_a_conversation_goes_on_from_an_earlier_response() -> None:
    item = {"type": "additional_tools", "tools": [SPACE]}
    earlier = parsed(item, USER, instructions="old", tools=[FUNCTION])
    answer = Response((ToolCall("ls", "{}", "c1"),), id="r")
    output = {"type": "function_call_output", "call_id": "c1", "output": "out"}
    request = parsed(output, instructions="new", tools=[FUNCTION], previous_response_id="r")
    whole = continued(request, earlier, answer)
    assert whole.previous_response is None
    assert [message.role for message in whole.messages] == [
        "system", "developer", "user", "assistant", "tool",
    ]  # fmt: skip
    assert whole.system.startswith("new")
    assert RESPONSES.render_request(whole)["input"] == [item, USER, call(), output]
    assert [tool.name for tool in whole.tools] == ["ls", "search", "say"]
    assert RESPONSES.render_response(answer, whole)["previous_response_id"] == "r", "OpenAI tells it again"
    assert "previous_response_id" not in RESPONSES.render_request(whole), "an upstream has never seen it"


def test_an_item_that_is_referred_to_is_put_in_the_place_of_its_name() -> None:
    earlier, answer = (
        parsed(USER),
        Response.of(Reasoning("hm"), "so", ToolCall("ls", "{}", "c1"), stop_reason="tool_use"),
    )
    answer = msgspec.structs.replace(answer, id="resp_1")
    thought, message, _ = RESPONSES.render_response(answer, earlier)["output"]
    names = [{"type": "item_reference", "id": item["id"]} for item in (thought, message)]
    output = {"type": "function_call_output", "call_id": "c1", "output": "out"}
    unknown = {"type": "item_reference", "id": "msg_never"}
    request = parsed(USER, *names, call(), output, unknown)
    assert RESPONSES.referenced is not None
    whole = RESPONSES.referenced(request, iter([(parsed(), Response.of("other")), (earlier, answer)]))
    assert message_key(whole.messages[1]) == message_key(Message("assistant", answer.content))
    assert whole.messages[-1] == request.messages[-1], "what nobody wrote stays as it is"
    plain = parsed(USER)
    assert RESPONSES.referenced(plain, (pytest.fail("not needed") for _ in range(1))) is plain


def test_the_ids_of_items_are_the_same_whole_streamed_and_told_again() -> None:
    answer = msgspec.structs.replace(
        Response.of(Reasoning("hm"), "so", ToolCall("ls", "{}", "c1")), id="resp_1"
    )
    whole = RESPONSES.render_response(answer, parsed())["output"]
    parser, renderer = RESPONSES.stream_parser(), RESPONSES.stream_renderer(parsed(stream=True))
    data = b"".join([renderer.render(event) for event in events_of(answer)])
    documents = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: ")]
    done = [each["item"]["id"] for each in documents if each["type"] == "response.output_item.done"]
    assert done == [item["id"] for item in documents[-1]["response"]["output"]]
    assert done == [item["id"] for item in whole] == ["rs_1_0", "msg_1_1", "fc_1_2"]
    assert done == [item["id"] for item in render_stored(answer, parsed())["output"]]
    assert list(parser.feed(data))


def test_an_answer_is_told_again_with_its_id_and_time() -> None:
    document = render_stored(Response.of("a"), parsed(), created=5)
    assert (document["created_at"], document["completed_at"], document["status"]) == (5, 5, "completed")
    SDKResponse.model_validate(document)


def test_an_answer_is_told_again_as_events_from_a_number_on() -> None:
    def told(after: int) -> list[tuple[int, str]]:
        data = render_stored_events(Response.of("a", ToolCall.of("ls")), parsed(stream=True), after=after)
        events = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: ")]
        return [(event["sequence_number"], event["type"]) for event in events]

    everything = told(-1)
    assert [number for number, _ in everything] == list(range(len(everything)))
    assert (everything[0][1], everything[-1][1]) == ("response.created", "response.completed")
    assert told(3) == everything[4:]
    assert told(len(everything) + 7) == everything[-1:], "never without its terminal event"


def test_input_items_have_ids_that_stay_and_the_newest_is_first() -> None:
    request = parsed(
        USER, call(), {"type": "function_call_output", "call_id": "c1", "output": "o"}, instructions="x"
    )
    listed = render_input_items(request)
    assert listed == render_input_items(request)
    assert [item["type"] for item in listed["data"]] == ["function_call_output", "function_call", "message"]
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    assert not listed["has_more"]
    assert render_input_items(request, order="asc")["data"] == listed["data"][::-1]
    ResponseItemList.model_validate({**listed, "data": listed["data"][1:]})


def test_an_empty_input_has_no_items() -> None:
    listed = render_input_items(Request(dialect=NAME, model="m", messages=()))
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_errors_have_openais_shape() -> None:
    document = RESPONSES.render_error(Failure(status=429, message="m"))
    assert document == {
        "error": {"message": "m", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }


def test_an_overflow_is_said_in_the_words_that_agents_know() -> None:
    error = RESPONSES.render_error(
        Failure(status=400, message="prompt is too long: 9000 tokens > 8192 maximum")
    )
    assert (error["error"]["code"], error["error"]["param"]) == (OVERFLOW, "input")
    assert "maximum context length is 8192 tokens" in error["error"]["message"]


def test_a_websocket_error_has_a_status_and_says_when_to_come_again() -> None:
    frame = render_ws_error(Failure(status=429, message="m", retry_after=1.2))
    assert (frame["type"], frame["status"], frame["headers"]) == ("error", 429, {"retry-after": "2"})
    assert frame["error"]["code"] == "rate_limit_exceeded"
    assert render_ws_error(Failure(status=400, message="m", code=OVERFLOW))["error"]["code"] == OVERFLOW
    gone = Failure(status=400, message="m", code="previous_response_not_found")
    assert render_ws_error(gone)["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"error": {"code": "server_is_overloaded", "message": "m"}}, 503, "server_is_overloaded"),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, 429, "rate_limit_exceeded"),
        ({"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "m"}}},
         400, "invalid_prompt"),
        ({"object": "error", "message": "m", "code": 500}, 500, None),
        ({"response": {"error": {"code": "context_length_exceeded", "message": "m"}}}, 400, OVERFLOW),
    ],
)  # fmt: skip
def test_errors_of_all_forms_are_read(document: Json, status: int, code: str | None) -> None:
    failure = RESPONSES.parse_error(0, document)
    assert (failure.status, failure.code, failure.message) == (status, code, "m")


def test_an_overflow_of_a_provider_is_raised_as_one() -> None:
    document = {"status": "failed", "error": {"code": "context_length_exceeded", "message": "too long"}}
    with pytest.raises(ContextLengthError):
        RESPONSES.parse_response(document)


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "anthropic_messages", "gemini"])
def test_what_an_agent_says_to_another_is_told_to_providers_of_every_dialect(dialect: str) -> None:
    said = [
        {"type": "input_text", "text": "I have found it."},
        {"type": "encrypted_content", "encrypted_content": "e"},
    ]
    item = {"type": "agent_message", "author": "/root/scout", "recipient": "/root", "content": said}
    request = parsed(item)
    document = json.dumps(DIALECTS[dialect].render_request(request))
    assert "I have found it." in document
    assert "/root/scout" in document
    assert RESPONSES.render_request(request)["input"] == [item]


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "gemini"])
def test_an_item_that_declares_tools_leaves_no_empty_message(dialect: str) -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [SPACE]}
    user = {"type": "message", "role": "user", "content": "hi"}
    with_item = DIALECTS[dialect].render_request(parsed(item, user))
    without = DIALECTS[dialect].render_request(parsed(user))
    names = ("messages", "contents", "prompt", "system", "systemInstruction")
    assert {n: with_item.get(n) for n in names} == {n: without.get(n) for n in names}


def test_a_repeated_output_of_a_tool_is_neither_parsed_nor_compared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = list[Any]()
    monkeypatch.setattr(memory, "_is_written_as", lambda new, old: compared.append(new) or new == old)
    call = {"type": "function_call", "call_id": "c", "name": "read", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "a file"}
    reply = {"type": "message", "role": "assistant", "content": "done"}
    known, seen = Memory(), list[Request]()
    turns = [[{"role": "user", "content": "hi"}], [call, call, output], [output], [reply], [call], [output]]
    items = list[dict[str, Any]]()
    for more in turns:
        items += more
        seen.append(RESPONSES.parse_request({"model": "m", "input": [*items]}, memory=known))
        assert seen[-1].messages == RESPONSES.parse_request({"model": "m", "input": [*items]}).messages
    assert "function_call_output" not in str(compared)  # only messages of the model, which may grow
    for before, after in pairwise(seen):
        whole = before.messages[:-1] if before.messages[-1].role == "assistant" else before.messages
        assert all(old is new for old, new in zip(whole, after.messages, strict=False))
