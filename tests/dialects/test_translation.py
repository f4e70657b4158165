"""From one dialect into another: what a provider of the other one accepts."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triocept._canonical.content import (
    Blob,
    Json,
    Media,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.events import assemble, events_of
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from triocept._canonical.response import Response, Usage
from triocept.dialects import DIALECTS
from triocept.dialects._portable import pack, unpack
from triocept.dialects._tool_names import ToolNames

from . import strategies as some

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"
PNG = "iVBORw0KGgo="
USER: Json = {"role": "user", "content": "hi"}


def to_messages(*messages: Json, **fields: Json) -> Json:
    request = DIALECTS[CHAT].parse_request({"model": "m", "messages": list(messages), **fields})
    return DIALECTS[ANTHROPIC].render_request(request)


def to_chat(*messages: Json, **fields: Json) -> Json:
    document = {"model": "m", "max_tokens": 9, "messages": list(messages), **fields}
    return DIALECTS[CHAT].render_request(DIALECTS[ANTHROPIC].parse_request(document))


def calls(*ids: str, arguments: str = "{}") -> Json:
    each = [{"id": i, "type": "function", "function": {"name": "ls", "arguments": arguments}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": each}


def result(identity: str, content: Json = "out") -> Json:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def test_results_of_parallel_calls_are_one_user_message_with_the_text_behind_them() -> None:
    document = to_messages(
        USER, calls("a", "b"), result("a"), result("b"), {"role": "user", "content": "go on"}
    )
    assert document["messages"] == [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "ls", "input": {}},
                {"type": "tool_use", "id": "b", "name": "ls", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "out"},
                {"type": "tool_result", "tool_use_id": "b", "content": "out"},
                {"type": "text", "text": "go on"},
            ],
        },
    ]


def test_results_come_before_the_text_of_their_user_message() -> None:
    results = [
        {"type": "text", "text": "go on"},
        {"type": "tool_result", "tool_use_id": "a", "content": "out"},
        {"type": "tool_result", "tool_use_id": "b", "content": "oops", "is_error": True},
    ]
    document = to_chat(USER, {"role": "user", "content": results})
    assert document["messages"] == [
        USER,
        result("a"),
        result("b", "Error: oops"),
        {"role": "user", "content": "go on"},
    ]


def test_images_of_results_come_behind_all_results_of_the_turn() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": [image]},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "out"}]},
        {"type": "text", "text": "go on"},
    ]
    document = to_chat(USER, {"role": "user", "content": results})
    assert document["messages"][1:] == [
        result("a", "(see below)"),
        result("b"),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Result of tool call a:"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "text", "text": "go on"},
            ],
        },
    ]


def test_images_of_results_are_not_lost_where_an_assistant_speaks_next() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    first = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [image]}]}
    document = to_chat(first, {"role": "assistant", "content": "seen"})
    assert [message["role"] for message in document["messages"]] == ["tool", "user", "assistant"]
    document = to_chat(first)
    assert [message["role"] for message in document["messages"]] == ["tool", "user"]


def test_system_prompts_at_the_head_are_the_system_and_later_ones_are_reminders_in_their_place() -> None:
    document = to_messages(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        USER,
        {"role": "developer", "content": "c"},
    )
    assert document["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    reminder = "<system-reminder>\nc\n</system-reminder>"
    assert document["messages"] == [USER, {"role": "user", "content": reminder}]
    document = to_messages(USER, calls("a"), {"role": "developer", "content": " "}, result("a"))
    assert len(document["messages"]) == 3
    document = to_chat(USER, {"role": "system", "content": "c"}, system=[{"type": "text", "text": "a"}])
    assert [message["role"] for message in document["messages"]] == ["system", "user", "system"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_empty_text_reaches_anthropic(text: str) -> None:
    document = to_messages(
        {"role": "system", "content": text}, {"role": "user", "content": text},
        {"role": "assistant", "content": text}, {**calls("a"), "content": text}, result("a", text),
    )  # fmt: skip
    assert "system" not in document
    assert document["messages"] == [
        {"role": "user", "content": "(no content)"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "ls", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
    ]


def test_max_tokens_is_made_where_the_agent_did_not_say() -> None:
    assert to_messages(USER)["max_tokens"] == 64_000
    assert to_messages(USER, max_completion_tokens=5)["max_tokens"] == 5
    assert to_chat(USER)["max_completion_tokens"] == 9


@pytest.mark.parametrize(("given_", "sent"), [(0.5, 0.5), (1.7, 1), (0, 0)])
def test_the_temperature_is_clamped(given_: float, sent: float) -> None:
    assert to_messages(USER, temperature=given_)["temperature"] == sent


def test_what_the_other_dialect_does_not_know_is_left_out() -> None:
    document = to_messages(
        USER, seed=1, presence_penalty=1, logit_bias={}, prompt_cache_key="k", metadata={"a": "b"}
    )
    assert document.keys() == {"model", "messages", "max_tokens"}
    document = to_chat(
        USER, top_k=5, context_management={}, service_tier="auto", metadata={"user_id": "u" * 65}
    )
    assert document.keys() == {"model", "messages", "max_completion_tokens"}


TOOLS: Json = [{"type": "function", "function": {"name": "ls", "description": "d", "parameters": {"a": 1}}}]


@pytest.mark.parametrize(("choice", "parallel", "sent"), [
    ("auto", None, {"type": "auto"}),
    ("none", None, {"type": "none"}),
    ("required", True, {"type": "any", "disable_parallel_tool_use": False}),
    (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ({"type": "function", "function": {"name": "ls"}}, None, {"type": "tool", "name": "ls"}),
    ("none", False, {"type": "none"}),
])  # fmt: skip
def test_tool_choices_are_translated(choice: Json, parallel: bool | None, sent: Json) -> None:
    document = to_messages(USER, tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel)
    assert document["tool_choice"] == sent
    assert document["tools"] == [
        {"name": "ls", "description": "d", "input_schema": {"type": "object", "a": 1}}
    ]


A: Json = {
    "type": "object",
    "properties": {"kind": {"const": "a"}, "a": {"type": "integer"}},
    "required": ["kind", "a"],
}
B: Json = {
    "type": "object",
    "properties": {"kind": {"const": "b"}, "b": {"type": "string"}},
    "required": ["b", "kind"],
}


@pytest.mark.parametrize(("schema", "properties", "required"), [
    ({"anyOf": [A, B]}, ["kind", "a", "b"], ["kind"]),
    ({"type": "object", "oneOf": [A, B], "required": ["b"]}, ["kind", "a", "b"], ["b", "kind"]),
    ({"allOf": [A, {"properties": {"c": {}}}], "$defs": {"x": {}}}, ["kind", "a", "c"], ["kind", "a"]),
    ({"anyOf": [A, {}]}, ["kind", "a"], None),
    ({"anyOf": [A, 5, {"properties": [], "required": "a"}], "oneOf": 5}, ["kind", "a"], None),
])  # fmt: skip
def test_alternatives_at_the_top_of_a_schema_become_one_object_for_anthropic(
    schema: Json, properties: list[str], required: list[str] | None
) -> None:
    tool = {"type": "function", "function": {"name": "ls", "parameters": schema}}
    sent = to_messages(USER, tools=[tool])["tools"][0]["input_schema"]
    assert sent["type"] == "object"
    assert not sent.keys() & {"anyOf", "oneOf", "allOf"}
    assert (list(sent["properties"]), sent.get("required")) == (properties, required)
    assert sent.get("$defs") == schema.get("$defs")


@pytest.mark.parametrize(("name", "at_gemini", "elsewhere"), [
    ("read_file", True, True),
    ("a" * 64, True, True),
    ("mcp.files:read", True, False),
    ("2nd", False, True),
    ("-x", False, True),
    ("a" * 65, False, False),
    ("datei_öffnen", False, False),
])  # fmt: skip
def test_a_tools_name_is_another_only_where_it_is_not_allowed(
    name: str, at_gemini: bool, elsewhere: bool
) -> None:
    request = Request(
        dialect="",
        model="m",
        messages=(
            Message("assistant", (ToolCall(name, "{}", "a"), ToolCall("other", "{}", "b"))),
            Message("tool", (ToolResult(id="a", name=name),)),
        ),
        tools=(Tool(name=name), Tool(name="", kind="server")),
        tool_choice=ToolChoice(mode="tool", name=name),
    )
    for dialect, allowed in (("gemini", at_gemini), (CHAT, elsewhere), (ANTHROPIC, elsewhere)):
        names = ToolNames(request, DIALECTS[dialect])
        told = names.request(request)
        assert (told == request) == allowed
        there = told.tools[0].name
        assert re.fullmatch("[a-zA-Z0-9_-][a-zA-Z0-9_.:-]{0,63}", there)
        assert told.tool_choice == ToolChoice(mode="tool", name=there)
        assert [call.name for call in told.messages[0].tool_calls] == [there, "other"]
        assert told.messages[1].tool_results[0].name == there
        answer = Response((Text("a"), ToolCall(there, "{}"), ToolCall("other", "{}")))
        assert [call.name for call in names.response(answer).tool_calls] == [name, "other"]
        assert [names.event(event) for event in events_of(answer)] == list(events_of(names.response(answer)))


def test_two_long_names_do_not_become_one() -> None:
    tools = tuple(Tool(name="x" * 70 + end) for end in "ab")
    request = Request(dialect="", model="m", messages=(Message("user", (Text("hi"),)),), tools=tools)
    first, second = ToolNames(request, DIALECTS[CHAT]).request(request).tools
    assert first.name != second.name


def test_a_tool_choice_without_tools_is_left_out() -> None:
    assert "tool_choice" not in to_messages(USER, tool_choice="auto", parallel_tool_calls=False)
    assert "tool_choice" not in to_chat(USER, tool_choice={"type": "auto"})


def test_a_custom_tool_is_a_function_of_one_string() -> None:
    document = to_messages(
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "patch", "input": "***"}}],
        },
        tools=[{"type": "custom", "custom": {"name": "patch"}}],
    )
    assert document["tools"][0]["input_schema"]["required"] == ["input"]
    assert document["messages"][1]["content"][0]["input"] == {"input": "***"}


def test_a_providers_own_tools_and_blocks_are_left_out() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    document = to_chat(
        USER,
        {"role": "assistant", "content": [block, {"type": "text", "text": "a"}]},
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
    )
    assert "tools" not in document
    assert document["messages"][1] == {"role": "assistant", "content": "a"}


def test_ids_that_anthropic_does_not_allow_are_rewritten_in_call_and_result_alike() -> None:
    document = to_messages(USER, calls("functions.ls:0", "ok"), result("functions.ls:0"), result("ok"))
    used = [block["id"] for block in document["messages"][1]["content"]]
    answered = [block["tool_use_id"] for block in document["messages"][2]["content"]]
    assert used == answered
    assert used[1] == "ok"
    assert used[0].startswith("toolu_")


def test_an_empty_id_is_the_same_in_call_and_result() -> None:
    document = to_messages(USER, calls(""), result(""))
    assert document["messages"][1]["content"][0]["id"] == document["messages"][2]["content"][0]["tool_use_id"]


@pytest.mark.parametrize("arguments", ["{cut", "[1]", '"a"'])
def test_arguments_that_are_no_object_are_kept_raw(arguments: str) -> None:
    document = to_messages(USER, calls("a", arguments=arguments))
    assert document["messages"][1]["content"][0]["input"] == {"_raw": arguments}


def test_reasoning_of_another_provider_is_not_sent() -> None:
    assistant = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    assert to_messages(USER, assistant)["messages"][1] == {"role": "assistant", "content": "a"}
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    unsigned = {"type": "thinking", "thinking": "hm", "signature": "triocept-unsigned"}
    text = {"type": "text", "text": "a"}
    document = to_chat(USER, {"role": "assistant", "content": [signed, text]})
    assert document["messages"][1] == {"role": "assistant", "content": "a"}
    # Ours came from a provider that does not sign: it may want its reasoning back (DeepSeek does).
    document = to_chat(USER, {"role": "assistant", "content": [unsigned, text]})
    assert document["messages"][1] == {"role": "assistant", "content": "a", "reasoning_content": "hm"}


SIGNED = {
    "anthropic_messages": Blob("anthropic_messages", "signature", "sig"),
    "openai_responses": Blob("openai_responses", "encrypted_content", "gAAAA"),
    "gemini": Blob("gemini", "thought_signature", "c2ln"),
    "openai_chat": Blob("openai_chat", "reasoning_details", '{"type":"reasoning.encrypted","data":"d"}'),
}


@pytest.mark.parametrize("text", ["hm", ""])
@pytest.mark.parametrize("provider", sorted(SIGNED))
@pytest.mark.parametrize("agent", ["anthropic_messages", "openai_responses", "gemini"])
def test_what_a_provider_signed_comes_back_to_it_through_an_agent_of_another_dialect(
    agent: str, provider: str, text: str
) -> None:
    blobs = (SIGNED[provider],)
    answer = Response((Reasoning(text, blobs), Text("a")), dialect=provider)
    asked = Request(dialect=agent, model="m", messages=(Message("user", (Text("hi"),)),), stream=True)
    codec = DIALECTS[agent]
    whole = codec.parse_response(codec.render_response(answer, asked))
    renderer, parser = codec.stream_renderer(asked), codec.stream_parser()
    body = b"".join(renderer.render(event) for event in events_of(answer))
    streamed = assemble([*parser.feed(body), *parser.close()])
    assert [blobs_of(each) for each in (whole, streamed)] == [blobs, blobs]
    assert [part.text for part in whole.content] == [text, "a"]


@pytest.mark.parametrize("foreign", sorted(SIGNED))
@pytest.mark.parametrize("provider", sorted(SIGNED))
def test_what_others_signed_is_not_sent_to_a_provider(provider: str, foreign: str) -> None:
    messages = (
        Message("user", (Text("hi"),)),
        Message("assistant", (Reasoning("hm", (SIGNED[foreign],)), Text("a"))),
        Message("user", (Text("go on"),)),
    )
    request = Request(dialect=provider, model="m", messages=messages)
    document = DIALECTS[provider].render_request(request)
    sent = str(DIALECTS[provider].parse_request(document).messages)
    assert ("blobs=(Blob" in sent) == (provider == foreign)
    assert "dHJpb2NlcHQtYmxvYnM6" not in str(document)


def blobs_of(response: Response) -> tuple[Blob, ...]:
    return tuple(blob for part in response.content if isinstance(part, Reasoning) for blob in part.blobs)


def test_a_packed_signature_is_read_in_either_alphabet_of_base64() -> None:
    blobs = (Blob("openai_responses", "encrypted_content", "\u00fb\u00ff\u00fe???>>>"),)
    packed = pack(blobs, "gemini")
    assert {"+", "/"} & set(packed)
    assert unpack(packed) == unpack(packed.replace("+", "-").replace("/", "_")) == blobs
    assert unpack(packed[:-3]) == unpack("c2ln") == ()


@pytest.mark.parametrize(("fields", "budget"), [
    ({"reasoning_effort": "high"}, 16_000),
    ({"reasoning_effort": "high", "max_tokens": 9000}, 8999),
    ({"reasoning_effort": "high", "max_tokens": 500}, None),
    ({"reasoning_effort": "none"}, None),
    ({"reasoning_effort": "high", "temperature": 0.5}, None),
    ({"reasoning_effort": "high", "tools": TOOLS, "tool_choice": "required"}, None),
    ({}, None),
])  # fmt: skip
def test_an_effort_is_a_budget_where_thinking_is_allowed(fields: dict[str, Any], budget: int | None) -> None:
    thinking = to_messages(USER, **fields).get("thinking")
    assert thinking == (budget and {"type": "enabled", "budget_tokens": budget})


def test_thinking_is_not_asked_for_behind_calls_that_lack_it() -> None:
    assert "thinking" not in to_messages(USER, calls("a"), result("a"), reasoning_effort="high")


@pytest.mark.parametrize(("thinking", "effort"), [
    ({"type": "enabled", "budget_tokens": 4096}, "low"),
    ({"type": "disabled"}, "none"),
    ({"type": "adaptive"}, None),
])  # fmt: skip
def test_a_budget_is_an_effort(thinking: Json, effort: str | None) -> None:
    assert to_chat(USER, thinking=thinking).get("reasoning_effort") == effort


def test_a_shape_of_the_answer_is_translated_or_asked_for_in_words() -> None:
    schema = {"type": "object"}
    wish = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    sent = to_messages(USER, response_format=wish)
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "JSON" in to_messages(USER, response_format={"type": "json_object"})["system"]
    sent = to_chat(USER, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }


def test_media_are_translated() -> None:
    url = f"data:image/png;base64,{PNG}"
    document = to_messages(
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://e.org/a"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
                },
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        }
    )
    first, second, third, fourth = document["messages"][0]["content"]
    assert first == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert second == {"type": "image", "source": {"type": "url", "url": "https://e.org/a"}}
    assert third["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert third["title"] == "a.pdf"
    assert fourth["type"] == "text"


def test_cached_and_written_tokens_survive_both_ways() -> None:
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3)
    for name, codec in DIALECTS.items():
        asked = Request(dialect=name, model="m", messages=(Message("user", (Text("hi"),)),))
        response = some.sayable_answer(Response((Text("a"),), usage=usage), name)
        assert codec.parse_response(codec.render_response(response, asked)).usage == response.usage


def test_an_answers_own_fields_do_not_reach_an_agent_of_another_dialect() -> None:
    document = {
        "id": "c1",
        "choices": [
            {"message": {"content": "a", "annotations": [1]}, "finish_reason": "stop", "token_ids": [5]}
        ],
        "system_fingerprint": "fp",
    }
    response = DIALECTS[CHAT].parse_response(document)
    asked = Request(dialect=ANTHROPIC, model="m", messages=(Message("user", (Text("hi"),)),))
    told = DIALECTS[ANTHROPIC].render_response(response, asked)
    assert told.keys() == {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}
    renderer = DIALECTS[ANTHROPIC].stream_renderer(asked)
    body = b"".join(renderer.render(event) for event in events_of(response))
    assert b"fingerprint" not in body
    assert b"token_ids" not in body


few = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(data=st.data())
def test_a_request_through_the_other_dialect_and_back_keeps_the_conversation(data: st.DataObject) -> None:
    source, target = data.draw(st.permutations([CHAT, ANTHROPIC]))
    request = data.draw(some.any_request(source))
    there = DIALECTS[target].parse_request(DIALECTS[target].render_request(request))
    again = msgspec.structs.replace(there, dialect=target)
    back = DIALECTS[source].parse_request(DIALECTS[source].render_request(again))
    names = [call.name for message in request.messages for call in message.tool_calls]
    assert [call.name for message in back.messages for call in message.tool_calls] == names
    assert results_of(back) == results_of(request)
    assert (back.model, back.stream) == (request.model, request.stream)


def results_of(request: Request) -> int:
    return sum(len(message.tool_results) for message in request.messages)


def test_a_whole_conversation_comes_back_from_the_other_dialect() -> None:
    messages = (
        Message("system", (Text("be terse"),)),
        Message("user", (Text("look"), Media(kind="image", media_type="image/png", data=PNG))),
        Message("assistant", (Text("ok"), ToolCall("ls", '{"a":1}', "t1"), ToolCall("ls", "{}", "t2"))),
        Message("tool", (ToolResult(id="t1", content=(Text("one"),)),)),
        Message("tool", (ToolResult(id="t2", content=(Text("two"),)),)),
        Message("user", (Text("go on"),)),
    )
    request = Request(
        dialect=CHAT,
        model="m",
        messages=messages,
        tools=(Tool(name="ls", parameters={"type": "object"}),),
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
        sampling=Sampling(max_output_tokens=9, temperature=0.5, stop=("END",)),
        output_format=OutputFormat(kind="json_schema", name="answer", schema={"type": "object"}),
        reasoning=None,
        user="u",
    )
    there = DIALECTS[ANTHROPIC].parse_request(DIALECTS[ANTHROPIC].render_request(request))
    back = DIALECTS[CHAT].parse_request(DIALECTS[CHAT].render_request(there))
    assert back == msgspec.structs.replace(request, include_usage=False)


@few
@given(data=st.data())
def test_a_stream_through_the_other_dialect_tells_the_same_story(data: st.DataObject) -> None:
    source, target = data.draw(st.permutations([CHAT, ANTHROPIC]))
    response = data.draw(some.any_response(source))
    asked = Request(dialect=target, model="m", messages=(Message("user", (Text("hi"),)),), stream=True)
    renderer, parser = DIALECTS[target].stream_renderer(asked), DIALECTS[target].stream_parser()
    body = b"".join(renderer.render(event) for event in events_of(response))
    told = assemble([*parser.feed(body), *parser.close()])
    whole = DIALECTS[target].parse_response(DIALECTS[target].render_response(response, asked))
    assert told.stop_reason == whole.stop_reason
    assert told.text.replace(" ", "") == whole.text.replace(" ", "")
    assert [call.name for call in told.tool_calls] == [call.name for call in response.tool_calls]
    assert not any(isinstance(part, Opaque) and part.dialect != target for part in told.content)
    assert any(isinstance(part, Reasoning) for part in told.content) == any(
        isinstance(part, Reasoning) for part in whole.content
    )


def test_an_effort_made_by_a_program_reaches_both() -> None:
    messages = (Message("user", (Text("hi"),)),)
    request = Request(dialect="", model="m", messages=messages, reasoning=ReasoningAsk(effort="low"))
    assert DIALECTS[CHAT].render_request(request)["reasoning_effort"] == "low"
    assert DIALECTS[ANTHROPIC].render_request(request)["thinking"]["budget_tokens"] == 4096
