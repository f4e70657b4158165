"""One table of requests, read and written; and what is wrong with the wrong ones."""

from typing import Any, get_args

import pytest

from triocept._canonical.content import (
    Blob,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from triocept.dialects import DIALECTS
from triocept.errors import DialectError

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"
PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def document_of(dialect: str, **fields: Any) -> dict[str, Json]:
    """The smallest request with these fields."""
    least: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    if dialect == ANTHROPIC:
        least["max_tokens"] = 9
    return {**least, **fields}


# Each is read as the message, and the message is written as it.
MESSAGES: list[tuple[str, Json, Message]] = [
    (CHAT, {"role": "user", "content": "hi"}, Message("user", (Text("hi"),))),
    (CHAT, {"role": "user", "content": ""}, Message("user")),
    (CHAT, {"role": "developer", "content": "be terse"}, Message("developer", (Text("be terse"),))),
    (CHAT, {"role": "user", "content": "hi", "name": "Ann"}, Message("user", (Text("hi"),), name="Ann")),
    (CHAT, {"role": "user", "content": "hi", "x": 1}, Message("user", (Text("hi"),), extra={"x": 1})),
    (CHAT,
     {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
     Message("user", (Text("a", {"cache_control": {"type": "ephemeral"}}),))),
    (CHAT, {"role": "user",
      "content": [{"type": "image_url", "image_url": {"url": "https://e.org/a", "detail": "low"}}]},
     Message("user", (Media(kind="image", url="https://e.org/a", extra={"image_url": {"detail": "low"}}),))),
    (CHAT, {"role": "user",
      "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
     Message("user", (Media(kind="image", media_type="image/png", data=PNG),))),
    (CHAT,
     {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]},
     Message("user", (Media(kind="audio", data="AAAA", media_type="audio/wav"),))),
    (CHAT, {"role": "user", "content": [
       {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
       {"type": "file", "file": {"file_id": "file-1"}}]},
     Message("user", (Media(kind="file", data="JVBE", media_type="application/pdf", name="a.pdf"),
       Media(kind="file", extra={"file": {"file_id": "file-1"}})))),
    (CHAT, {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]},
     Message("user", (Opaque(CHAT, {"type": "video_url", "video_url": {"url": "u"}}),))),
    (CHAT, {"role": "assistant", "content": ""}, Message("assistant")),
    (CHAT, {"role": "assistant", "content": None,
      "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"a": 1}'}},
       {"id": "c2", "type": "function", "function": {"name": "ls", "arguments": "not JSON"}}]},
     Message("assistant", (ToolCall("ls", '{"a": 1}', "c1"), ToolCall("ls", "not JSON", "c2")))),
    (CHAT, {"role": "assistant", "content": None,
      "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "***"}}]},
     Message("assistant", (ToolCall("patch", "***", "c1", "text"),))),
    (CHAT, {"role": "assistant", "content": None,
      "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"g": 1}}]},
     Message("assistant", (ToolCall("f", "{}", "c", extra={"extra_content": {"g": 1}}),))),
    (CHAT, {"role": "assistant", "content": "a", "reasoning_content": "hm"},
     Message("assistant", (Reasoning("hm"), Text("a")))),
    (CHAT, {"role": "assistant", "content": "a", "reasoning": "hm"},
     Message("assistant", (Reasoning("hm", extra={"field": "reasoning"}), Text("a")))),
    (CHAT, {"role": "assistant", "content": "a",
      "reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}]},
     Message("assistant",
      (Reasoning("", (Blob(CHAT, "reasoning_details", '{"type":"reasoning.encrypted","data":"d"}'),),
        {"field": "reasoning_details"}), Text("a")))),
    (CHAT, {"role": "assistant", "content": "", "refusal": "no"}, Message("assistant", (RefusalText("no"),))),
    (CHAT, {"role": "tool", "tool_call_id": "c1", "content": "out"},
     Message("tool", (ToolResult(id="c1", content=(Text("out"),)),))),
    (CHAT, {"role": "tool", "tool_call_id": "c1",
      "content": [{"type": "image_url", "image_url": {"url": "https://e.org/a"}}]},
     Message("tool", (ToolResult(id="c1", content=(Media(kind="image", url="https://e.org/a"),)),))),
    (ANTHROPIC, {"role": "user", "content": "hi"}, Message("user", (Text("hi"),))),
    (ANTHROPIC,
     {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
     Message("user", (Text("a", {"cache_control": {"type": "ephemeral"}}),))),
    (ANTHROPIC, {"role": "user",
      "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
       {"type": "image", "source": {"type": "url", "url": "https://e.org/a"}},
       {"type": "image", "source": {"type": "file", "file_id": "f1"}}]},
     Message("user",
      (Media(kind="image", media_type="image/png", data=PNG), Media(kind="image", url="https://e.org/a"),
       Opaque(ANTHROPIC, {"type": "image", "source": {"type": "file", "file_id": "f1"}})))),
    (ANTHROPIC, {"role": "user", "content": [
       {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        "title": "a.pdf", "citations": {"enabled": True}},
       {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}}]},
     Message("user", (Media(kind="file", media_type="application/pdf", data="JVBE", name="a.pdf",
        extra={"citations": {"enabled": True}}), Media(kind="file", media_type="text/plain", data="aGk=")))),
    (ANTHROPIC, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "sig"},
       {"type": "redacted_thinking", "data": "xyz"}, {"type": "text", "text": "a"},
       {"type": "tool_use", "id": "t1", "name": "ls", "input": {"a": 1}},
       {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}]},
     Message("assistant", (Reasoning("hm", (Blob(ANTHROPIC, "signature", "sig"),)),
       Reasoning("", (Blob(ANTHROPIC, "redacted", "xyz"),)), Text("a"), ToolCall("ls", '{"a":1}', "t1"),
       Opaque(ANTHROPIC, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})))),
    (ANTHROPIC, {"role": "assistant",
      "content": [{"type": "tool_use", "id": "t1", "name": "ls", "input": {"_raw": "{cut"}}]},
     Message("assistant", (ToolCall("ls", "{cut", "t1"),))),
    (ANTHROPIC, {"role": "user",
      "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "out", "is_error": True},
       {"type": "tool_result", "tool_use_id": "t2"},
       {"type": "tool_result", "tool_use_id": "t3",
        "content": [{"type": "image", "source": {"type": "url", "url": "u"}},
         {"type": "search_result", "title": "t"}]}, {"type": "text", "text": "go on"}]},
     Message("user", (ToolResult(id="t1", content=(Text("out"),), is_error=True), ToolResult(id="t2"),
       ToolResult(id="t3",
        content=(Media(kind="image", url="u"), Opaque(ANTHROPIC, {"type": "search_result", "title": "t"}))),
       Text("go on")))),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "wire", "message"), MESSAGES)
def test_this_message_is_read_and_written(dialect: str, wire: Json, message: Message) -> None:
    codec = DIALECTS[dialect]
    first = {"role": "user", "content": "first"}
    document = document_of(dialect, messages=[first, wire])
    request = codec.parse_request(document)
    assert request.messages[1:] == (message,)
    assert codec.render_request(request)["messages"] == [first, wire]


def read_of(dialect: str, message: dict[str, Json]) -> tuple[object, ...] | str:
    """Who says what, or what is wrong with it."""
    field = "input" if dialect == "openai_responses" else "messages"
    try:
        request = DIALECTS[dialect].parse_request(document_of(dialect, **{field: [message]}))
    except DialectError as exc:
        return str(exc)
    return tuple(
        [(said.role, said.text, [result.text for result in said.tool_results]) for said in request.messages]
    )


ROLES: list[Json] = [*get_args(Role), "function", "nobody", ["user"], None]


@pytest.mark.parametrize("content", ["hi", "", None, 7])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("dialect", [CHAT, ANTHROPIC, "openai_responses", "ollama"])
def test_a_message_of_a_role_and_a_text_is_read_as_one_with_more_beside(
    dialect: str, role: Json, content: Json
) -> None:
    message = {"role": role, "content": content}
    assert read_of(dialect, message) == read_of(dialect, {**message, "beside": 1})


# Each field of a document is read as these of the request, and written again.
FIELDS: list[tuple[str, dict[str, Json], dict[str, Any]]] = [
    (CHAT, {"stream": True}, {"stream": True, "include_usage": False}),
    (CHAT, {"stream": True, "stream_options": {"include_usage": True}},
     {"stream": True, "include_usage": True}),
    (CHAT, {"max_completion_tokens": 5}, {"sampling": Sampling(max_output_tokens=5)}),
    (CHAT, {"max_tokens": 5}, {"sampling": Sampling(max_output_tokens=5), "extra": {"max_tokens": None}}),
    (CHAT, {"temperature": 1.5, "top_p": 0.5, "top_k": 3, "stop": ["a"], "seed": 1, "presence_penalty": 0.1},
     {"sampling": Sampling(temperature=1.5, top_p=0.5, top_k=3, stop=("a",), seed=1, presence_penalty=0.1)}),
    (CHAT, {"reasoning_effort": "high"}, {"reasoning": ReasoningAsk(effort="high")}),
    (CHAT, {"response_format": {"type": "json_object"}}, {"output_format": OutputFormat(kind="json_object")}),
    (CHAT, {"response_format": {"type": "json_schema",
       "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
     {"output_format": OutputFormat(kind="json_schema", name="n", schema=SCHEMA, strict=True)}),
    (CHAT, {"user": "u", "metadata": {"a": "b"}}, {"user": "u", "extra": {"metadata": {"a": "b"}}}),
    (CHAT, {"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    (CHAT, {"tool_choice": "required"}, {"tool_choice": ToolChoice(mode="required")}),
    (CHAT, {"tool_choice": {"type": "function", "function": {"name": "ls"}}},
     {"tool_choice": ToolChoice(mode="tool", name="ls")}),
    (CHAT, {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}},
     {"tool_choice": ToolChoice(mode="required",
       extra={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}})}),
    (CHAT,
     {"tools": [{"type": "function", "function": {"name": "ls", "description": "d", "parameters": SCHEMA}},
       {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}, {"type": "web_search"}]},
     {"tools": (Tool(name="ls", description="d", parameters=SCHEMA),
       Tool(name="patch", kind="custom",
        extra={"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}),
       Tool(name="", kind="server", extra={"type": "web_search"}))}),
    (ANTHROPIC, {"temperature": 0.5, "top_p": 0.5, "top_k": 3, "stop_sequences": ["a"], "max_tokens": 5},
     {"sampling": Sampling(max_output_tokens=5, temperature=0.5, top_p=0.5, top_k=3, stop=("a",))}),
    (ANTHROPIC, {"thinking": {"type": "enabled", "budget_tokens": 2000}},
     {"reasoning": ReasoningAsk(budget_tokens=2000)}),
    (ANTHROPIC, {"thinking": {"type": "adaptive", "display": "omitted"}},
     {"reasoning": ReasoningAsk(effort="adaptive"), "extra": {"thinking": {"display": "omitted"}}}),
    (ANTHROPIC, {"thinking": {"type": "disabled"}}, {"reasoning": ReasoningAsk(effort="none")}),
    (ANTHROPIC, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max", "x": 1}},
     {"reasoning": ReasoningAsk(effort="max"),
      "extra": {"thinking": {"type": "adaptive"}, "output_config": {"x": 1}}}),
    (ANTHROPIC, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
     {"output_format": OutputFormat(kind="json_schema", schema=SCHEMA)}),
    (ANTHROPIC, {"metadata": {"user_id": "u"}}, {"user": "u"}),
    (ANTHROPIC, {"context_management": {"edits": []}}, {"extra": {"context_management": {"edits": []}}}),
    (ANTHROPIC, {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
     {"tool_choice": ToolChoice(mode="required"), "parallel_tool_calls": False}),
    (ANTHROPIC, {"tool_choice": {"type": "tool", "name": "ls"}},
     {"tool_choice": ToolChoice(mode="tool", name="ls")}),
    (ANTHROPIC, {"tools": [{"type": "custom", "name": "ls", "description": "d", "input_schema": SCHEMA},
       {"type": "bash_20250124", "name": "bash"}]},
     {"tools": (Tool(name="ls", description="d", parameters=SCHEMA, extra={"type": "custom"}),
       Tool(name="bash", kind="server", extra={"type": "bash_20250124", "name": "bash"}))}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "wire", "fields"), FIELDS)
def test_this_field_is_read_and_written(dialect: str, wire: dict[str, Json], fields: dict[str, Any]) -> None:
    codec = DIALECTS[dialect]
    document = document_of(dialect, **wire)
    request = codec.parse_request(document)
    assert {name: getattr(request, name) for name in fields} == fields
    assert codec.render_request(request) == document


WRONG: list[tuple[str, Json, str]] = [
    (CHAT, [], ""),
    (CHAT, {"messages": []}, "model"),
    (CHAT, {"model": "m"}, "messages"),
    (CHAT, {"model": "m", "messages": []}, "messages"),
    (CHAT, {"model": "m", "messages": "hi"}, "messages"),
    (CHAT, {"model": 5, "messages": []}, "model"),
    (CHAT, document_of(CHAT, n=2), "n"),
    (CHAT, document_of(CHAT, stream="yes"), "stream"),
    (CHAT, document_of(CHAT, tools="ls"), "tools"),
    (CHAT, document_of(CHAT, tools=[{"type": "function"}]), "tools[0].function"),
    (CHAT, document_of(CHAT, tools=[{}]), "tools[0].type"),
    (CHAT, document_of(CHAT, max_tokens=1.5), "max_tokens"),
    (CHAT, document_of(CHAT, tool_choice={"type": "function"}), "tool_choice.function.name"),
    (CHAT, document_of(CHAT, messages=[{"content": "hi"}]), "messages[0].role"),
    (CHAT, document_of(CHAT, messages=[{"role": "robot"}]), "messages[0].role"),
    (CHAT, document_of(CHAT, messages=["hi"]), "messages[0]"),
    (CHAT, document_of(CHAT, messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    (CHAT, document_of(CHAT, messages=[{"role": "user", "content": [{"text": "a"}]}]),
     "messages[0].content[0].type"),
    (CHAT, document_of(CHAT, messages=[{"role": "user", "content": [{"type": "text"}]}]),
     "messages[0].content[0].text"),
    (CHAT,
     document_of(CHAT, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
     "messages[0].content[0].image_url.url"),
    (CHAT, document_of(CHAT, messages=[{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]),
     "messages[0].tool_calls[0].function.name"),
    (ANTHROPIC, "hi", ""),
    (ANTHROPIC, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
    (ANTHROPIC, {"model": "m", "max_tokens": 5}, "messages"),
    (ANTHROPIC, {"model": "m", "max_tokens": 5, "messages": []}, "messages"),
    (ANTHROPIC, document_of(ANTHROPIC, system=5), "system"),
    (ANTHROPIC, document_of(ANTHROPIC, system=[{"type": "text"}]), "system[0].text"),
    (ANTHROPIC, document_of(ANTHROPIC, stop_sequences=[1]), "stop_sequences[0]"),
    (ANTHROPIC, document_of(ANTHROPIC, messages=[{"role": "tool"}]), "messages[0].role"),
    (ANTHROPIC, document_of(ANTHROPIC, tools=[{}]), "tools[0].name"),
    (ANTHROPIC, document_of(ANTHROPIC, tool_choice={"type": "tool"}), "tool_choice.name"),
    (ANTHROPIC, document_of(ANTHROPIC, messages=[{"role": "user", "content": [{"type": "tool_result"}]}]),
     "messages[0].content[0].tool_use_id"),
    (ANTHROPIC,
     document_of(ANTHROPIC, messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}]),
     "messages[0].content[0].source.type"),
    (ANTHROPIC, document_of(ANTHROPIC, messages=[
       {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": 1}]}]}]),
     "messages[0].content[0].content[0].type"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "document", "path"), WRONG)
def test_a_wrong_document_gives_this_path(dialect: str, document: Json, path: str) -> None:
    with pytest.raises(DialectError) as caught:
        DIALECTS[dialect].parse_request(document)
    assert caught.value.path == path


def test_the_newer_cap_wins_over_the_older() -> None:
    request = DIALECTS[CHAT].parse_request(document_of(CHAT, max_tokens=5, max_completion_tokens=6))
    assert request.sampling.max_output_tokens == 6


def test_legacy_functions_are_tools() -> None:
    document = document_of(
        CHAT,
        functions=[{"name": "ls", "parameters": {}}],
        function_call={"name": "ls"},
        messages=[
            {"role": "assistant", "content": None, "function_call": {"name": "ls", "arguments": "{}"}},
            {"role": "function", "name": "ls", "content": "out"},
        ],
    )
    request = DIALECTS[CHAT].parse_request(document)
    assert request.tools == (Tool(name="ls", parameters={}),)
    assert request.tool_choice == ToolChoice(mode="tool", name="ls")
    assert request.messages[0].tool_calls[0].id == request.messages[1].tool_results[0].id == "call_ls"


def test_one_choice_may_be_asked_for() -> None:
    assert DIALECTS[CHAT].parse_request(document_of(CHAT, n=1)).extra is None


@pytest.mark.parametrize("signature", ["", "triocept-unsigned"])
def test_thinking_that_nobody_signed_has_no_blob_and_is_not_sent_on(signature: str) -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": signature}
    document = document_of(
        ANTHROPIC,
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]},
        ],
    )
    request = DIALECTS[ANTHROPIC].parse_request(document)
    parts: tuple[Part, ...] = (Reasoning("hm"), Text("a"))
    assert request.messages[1].content == parts
    assert DIALECTS[ANTHROPIC].render_request(request)["messages"][1] == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize("system", ["be terse", [{"type": "text", "text": "a", "cache_control": {}}]])
def test_a_system_prompt_is_a_message_and_goes_back_to_its_place(system: Json) -> None:
    document = document_of(
        ANTHROPIC,
        system=system,
        messages=[{"role": "user", "content": "hi"}, {"role": "system", "content": "mid"}],
    )
    request = DIALECTS[ANTHROPIC].parse_request(document)
    assert [message.role for message in request.messages] == ["system", "user", "system"]
    assert DIALECTS[ANTHROPIC].render_request(request) == document


@pytest.mark.parametrize("system", ["", [], None])
def test_an_empty_system_prompt_is_none(system: Json) -> None:
    request = DIALECTS[ANTHROPIC].parse_request(document_of(ANTHROPIC, system=system))
    assert "system" not in DIALECTS[ANTHROPIC].render_request(request)


@pytest.mark.parametrize("dialect", [CHAT, ANTHROPIC, "openai_responses", "ollama"])
def test_a_request_asks_for_a_whole_answer_if_its_program_does_not_say_otherwise(dialect: str) -> None:
    request = Request(dialect=dialect, model="m", messages=(Message("user", (Text("hi"),)),))
    assert not DIALECTS[dialect].render_request(request).get("stream")
