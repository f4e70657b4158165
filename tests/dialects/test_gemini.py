"""Requests, answers, errors and paths of generateContent."""

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
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from triocept._canonical.response import Response, StopReason, Usage
from triocept._canonical.tokens import estimate_input_tokens
from triocept.dialects import DIALECTS, Failure
from triocept.dialects.base import Target
from triocept.dialects.gemini.side import parse_count_request, render_models, render_token_count
from triocept.dialects.kit import OVERFLOW, error_of
from triocept.errors import ContextLengthError, DialectError, UpstreamError

from . import strategies as some

CODEC = DIALECTS["gemini"]
CHAT, ANTHROPIC = DIALECTS["openai_chat"], DIALECTS["anthropic_messages"]
USER: Json = {"role": "user", "parts": [{"text": "hi"}]}
UNSIGNED = "skip_thought_signature_validator"


def parse(*contents: Json, target: Target = Target(model="m"), **fields: Json) -> Request:  # noqa: B008
    return CODEC.parse_request({"contents": list(contents), **fields}, target)


def again(request: Request) -> Json:
    document = CODEC.render_request(request)
    assert document.pop("model") == "models/m"
    return document


def answered(*parts: Json, reason: str | None = "STOP", **candidate: Json) -> Response:
    content = {"content": {"parts": list(parts), "role": "model"}, "finishReason": reason, **candidate}
    return CODEC.parse_response({"candidates": [content]})


def told(response: Response) -> Json:
    request = Request(dialect="gemini", model="m", messages=(Message("user", (Text("hi"),)),))
    return CODEC.render_response(response, request)


# Paths.


@pytest.mark.parametrize(("path", "query", "target"), [
    ("/v1beta/models/g-1:generateContent", "", Target(model="g-1")),
    ("/v1/models/g-1:generateContent", "alt=json", Target(model="g-1")),
    ("/v1alpha/models/g-1:generateContent", "key=k", Target(model="g-1")),
    ("/models/g-1:generateContent", "", Target(model="g-1")),
    ("/v1beta/tunedModels/x:generateContent", "", Target(model="tunedModels/x")),
    ("/v1beta/models/models/x:generateContent", "", Target(model="x")),
    ("/v1beta/models/org/x:generateContent", "", Target(model="org/x")),
    ("/v1beta/models/org%2Fx%3A2:generateContent", "", Target(model="org/x:2")),
    ("/v1beta/models/x%3AgenerateContent", "", Target(model="x")),
    ("/v1/projects/p/locations/l/publishers/google/models/x:generateContent", "", Target(model="x")),
    ("/v1beta/models/x:streamGenerateContent", "alt=sse", Target(model="x", stream=True)),
    ("/v1beta/models/x:streamGenerateContent", "key=k&alt=sse", Target(model="x", stream=True)),
    ("/v1beta/models/x:streamGenerateContent", "", Target(model="x", stream=True, array=True)),
    ("/v1beta/models/x:streamGenerateContent", "alt=json", Target(model="x", stream=True, array=True)),
    ("/v1beta/models/x:countTokens", "", None),
    ("/v1beta/models/:generateContent", "", None),
    ("/v1beta/models/x", "", None),
    ("/v2/models/x:generateContent", "", None),
    ("/v1/chat/completions", "", None),
])  # fmt: skip
def test_a_path_says_the_model_and_the_kind_of_answer(path: str, query: str, target: Target | None) -> None:
    assert CODEC.match(path, query) == target


@pytest.mark.parametrize("model", ["g-1", "tunedModels/x", "org/x", "a b"])
def test_the_path_to_a_provider_is_one_that_is_read_again(model: str) -> None:
    request = CODEC.parse_request({"contents": [USER]}, Target(model=model))
    assert CODEC.match(CODEC.path(request), "") == Target(model=model)
    path, _, query = CODEC.path(Request(dialect="x", model=model, messages=(), stream=True)).partition("?")
    assert CODEC.match(path, query) == Target(model=model, stream=True)
    assert CHAT.path(request) == "/chat/completions"
    assert ANTHROPIC.path(request) == "/v1/messages"


def test_the_path_says_how_the_answer_is_framed() -> None:
    request = parse(USER, target=Target(model="m", stream=True, array=True))
    assert (request.stream, request.framing) == (True, "json_array")
    assert CODEC.stream_type(request) == "application/json"
    request = parse(USER, target=Target(model="m", stream=True))
    assert (request.stream, request.framing) == (True, "sse")
    assert CODEC.stream_type(request) == "text/event-stream"


def test_a_document_without_its_path_names_its_model_itself() -> None:
    assert CODEC.parse_request({"model": "models/x", "contents": [USER]}).model == "x"
    with pytest.raises(DialectError, match=r"^model: is missing"):
        CODEC.parse_request({"contents": [USER]})


# Requests.


WHOLE: Json = {
    "systemInstruction": {"role": "user", "parts": [{"text": "be terse"}]},
    "contents": [
     {"role": "user", "parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]},
     {"role": "model", "parts": [{"text": "hm", "thought": True, "thoughtSignature": "c2ln"}, {"text": "ok"},
       {"functionCall": {"id": "c1", "name": "ls", "args": {"a": 1}}, "thoughtSignature": "Y2Fs"},
       {"functionCall": {"name": "ls", "args": {}}}, {"executableCode": {"language": "PYTHON", "code": "1"}}]},
     {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "ls", "response": {"output": "one"}}},
       {"functionResponse": {"name": "ls", "response": {"result": "two"}}},
       {"fileData": {"fileUri": "https://e.org/a.pdf", "mimeType": "application/pdf"}}]}],
    "tools": [{"functionDeclarations": [{"name": "ls", "description": "d",
        "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}},
       {"name": "cat", "parametersJsonSchema": {"type": "object"}, "behavior": "BLOCKING"}]},
     {"googleSearch": {}}],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}, "retrievalConfig": {"languageCode": "en"}},
    "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 40,
     "stopSequences": ["END"], "seed": 1, "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True},
     "responseModalities": ["TEXT"]},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    "cachedContent": "cachedContents/x",
}  # fmt: skip


def test_a_whole_request_is_read() -> None:
    request = CODEC.parse_request(WHOLE, Target(model="m"))
    assert request.system == "be terse"
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages[1].content[1] == Media(kind="image", data="iVBO", media_type="image/png")
    thought, text, first, second, code = request.messages[2].content
    assert thought == Reasoning("hm", (Blob("gemini", "thought_signature", "c2ln"),))
    assert text == Text("ok")
    assert first == ToolCall("ls", '{"a":1}', "c1", extra={"thoughtSignature": "Y2Fs"})
    assert second == ToolCall("ls", "{}", "triocept_call_1")
    assert isinstance(code, Opaque)
    one, two, file = request.messages[3].content
    assert one == ToolResult(id="c1", content=(Text("one"),), name="ls")
    assert isinstance(two, ToolResult)
    assert (two.id, two.text) == ("triocept_call_1", "two")
    assert file == Media(kind="file", url="https://e.org/a.pdf", media_type="application/pdf")
    assert request.tools[0].parameters == {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert [(tool.name, tool.kind) for tool in request.tools] == [
        ("ls", "function"),
        ("cat", "function"),
        ("googleSearch", "server"),
    ]
    assert request.tool_choice == ToolChoice()
    assert request.sampling == Sampling(
        max_output_tokens=9, temperature=0.5, top_p=0.9, top_k=40, stop=("END",), seed=1
    )
    assert request.reasoning == ReasoningAsk(budget_tokens=1024)
    assert request.extra["generationConfig"] == {
        "thinkingConfig": {"includeThoughts": True},
        "responseModalities": ["TEXT"],
    }
    assert request.extra.keys() == {"generationConfig", "toolConfig", "safetySettings", "cachedContent"}


def test_a_whole_request_is_written_again_as_it_was() -> None:
    assert again(CODEC.parse_request(WHOLE, Target(model="m"))) == WHOLE


def snake(value: Json) -> Json:
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    free = ("args", "response", "parameters", "parametersJsonSchema")
    return {
        "".join("_" + char.lower() if char.isupper() else char for char in name): (
            inner if name in free else snake(inner)
        )
        for name, inner in value.items()
    }


def test_snake_case_says_the_same() -> None:
    read = CODEC.parse_request(snake(WHOLE), Target(model="m"))
    plain = CODEC.parse_request(WHOLE, Target(model="m"))
    assert read.messages[:2] == plain.messages[:2]
    assert read.messages[2].content[:4] == plain.messages[2].content[:4]
    assert read.messages[3] == plain.messages[3]
    assert (read.tools[:2], read.tool_choice) == (plain.tools[:2], plain.tool_choice)
    assert (read.sampling, read.reasoning) == (plain.sampling, plain.reasoning)


def test_an_error_names_the_path_as_it_was_spelt() -> None:
    with pytest.raises(DialectError) as caught:
        parse(USER, generation_config={"max_output_tokens": "many"})
    assert caught.value.path == "generation_config.max_output_tokens"


@pytest.mark.parametrize("system", ["be terse", {"text": "be terse"}, {"parts": {"text": "be terse"}}])
def test_a_system_instruction_has_many_forms(system: Json) -> None:
    request = parse(USER, systemInstruction=system)
    assert request.system == "be terse"
    assert again(request)["systemInstruction"] == {"parts": [{"text": "be terse"}]}


def test_contents_and_parts_may_be_one_without_a_list_and_a_role_may_be_missing() -> None:
    request = CODEC.parse_request({"contents": {"parts": {"text": "hi"}}}, Target(model="m"))
    assert request.messages == (Message("user", (Text("hi"),)),)


@pytest.mark.parametrize(("fields", "path"), [
    ({"contents": None}, "contents"),
    ({"contents": []}, "contents"),
    ({"contents": "hi"}, "contents"),
    ({"contents": [{"role": "wizard", "parts": []}]}, "contents[0].role"),
    ({"contents": [USER, {"parts": [{"text": 5}]}]}, "contents[1].parts[0].text"),
    ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "contents[0].parts[0].functionCall.name"),
    ({"contents": [{"parts": [{"functionCall": {"name": "a", "args": 5}}]}]},
     "contents[0].parts[0].functionCall.args"),
    ({"generationConfig": {"candidateCount": 2}}, "generationConfig.candidateCount"),
    ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
    ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
    ({"toolConfig": {"functionCallingConfig": 5}}, "toolConfig.functionCallingConfig"),
])  # fmt: skip
def test_what_is_wrong_in_a_request_is_named(fields: Json, path: str) -> None:
    with pytest.raises(DialectError) as caught:
        CODEC.parse_request({"contents": [USER], **fields}, Target(model="m"))
    assert caught.value.path == path


def call(name: str, identity: str | None = None, **args: Json) -> Json:
    inner = {"name": name, "args": args}
    return {"functionCall": inner if identity is None else {"id": identity, **inner}}


def result(name: str, response: Json, identity: str | None = None) -> Json:
    inner = {"name": name, "response": response}
    return {"functionResponse": inner if identity is None else {"id": identity, **inner}}


def test_results_without_ids_belong_to_the_calls_of_their_name_in_order() -> None:
    request = parse(
        USER,
        {"role": "model", "parts": [call("ls"), call("cat"), call("ls")]},
        {"role": "user", "parts": [result("cat", {"output": "1"}), result("ls", {"output": "2"})]},
        {"role": "function", "parts": [result("ls", {"output": "3"})]},
    )
    first, second, third = request.messages[1].tool_calls
    assert len({first.id, second.id, third.id}) == 3
    assert [part.id for part in request.messages[2].tool_results] == [second.id, first.id]
    assert [part.id for part in request.tool_results] == [second.id, first.id, third.id]
    assert request.messages[3].role == "tool"


def test_made_ids_are_the_same_in_the_next_request_and_never_written_to_gemini() -> None:
    contents = [USER, {"role": "model", "parts": [call("ls")]}, {"role": "user", "parts": [result("ls", {})]}]
    request, longer = parse(*contents), parse(*contents, {"role": "model", "parts": [call("ls")]})
    assert longer.messages[: len(request.messages)] == request.messages
    assert longer.messages[-1].tool_calls[0].id != request.messages[1].tool_calls[0].id
    assert again(request)["contents"] == contents


def test_an_id_that_only_the_result_has_is_kept() -> None:
    contents = [
        USER,
        {"role": "model", "parts": [call("ls")]},
        {"role": "user", "parts": [result("ls", {"output": "x"}, "own-1")]},
    ]
    request = parse(*contents)
    assert request.tool_results[0].id == request.messages[1].tool_calls[0].id
    assert again(request)["contents"] == contents


def test_ids_go_before_names() -> None:
    request = parse(
        USER,
        {"role": "model", "parts": [call("ls", "a"), call("ls", "b")]},
        {"role": "user", "parts": [result("ls", {"output": "2"}, "b"), result("ls", {"output": "1"})]},
    )
    assert [(part.id, part.text) for part in request.tool_results] == [("b", "2"), ("a", "1")]


def test_a_result_in_a_turn_of_the_model_is_a_tools() -> None:
    request = parse(
        USER, {"role": "model", "parts": [{"text": "so"}, call("ls"), result("ls", {"output": "x"})]}
    )
    assert [message.role for message in request.messages] == ["user", "assistant", "tool"]
    assert request.tool_results[0].id == request.messages[1].tool_calls[0].id
    assert again(request)["contents"][-1]["role"] == "user"


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [
        ({"output": "x"}, "x", False),
        ({"result": "x"}, "x", False),
        ({"error": "x"}, "x", True),
        ({"error": {"code": 5}}, '{"error":{"code":5}}', True),
        ({"a": 1, "b": [2]}, '{"a":1,"b":[2]}', False),
        ({"output": '{"a":1}'}, '{"a":1}', False),
        ({"output": ""}, "", False),
        ({"error": ""}, "", True),
        ({"output": 5}, '{"output":5}', False),
        ({"name": "ls", "content": "x"}, "x", False),  # Vercel's AI SDK
        ({"name": "cat", "content": "x"}, '{"name":"cat","content":"x"}', False),
        ({}, "", False),
    ],
)
def test_a_result_is_read_as_text_and_written_again_as_it_stood(
    response: Json, text: str, failed: bool
) -> None:
    contents = [USER, {"role": "user", "parts": [result("ls", response, "c1")]}]
    request = parse(*contents)
    assert (request.tool_results[0].text, request.tool_results[0].is_error) == (text, failed)
    assert again(request)["contents"] == contents


def test_media_of_a_result_stay_in_it() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBO", "displayName": "p"}}
    inner = {
        "id": "c", "name": "see", "response": {"output": "x"}, "parts": [picture], "scheduling": "SILENT",
    }  # fmt: skip
    contents = [USER, {"role": "user", "parts": [{"functionResponse": inner}]}]
    request = parse(*contents)
    assert request.tool_results[0].content[1] == Media(
        kind="image", data="iVBO", media_type="image/png", name="p"
    )
    assert again(request)["contents"] == contents


def test_a_signature_stays_on_its_very_part() -> None:
    parts = [
        {"text": "a"}, {"text": "", "thoughtSignature": "x"}, {"thoughtSignature": "y"},
        {"inlineData": {"mimeType": "image/png", "data": ""}, "thoughtSignature": "z"},
        {"functionCall": {"id": "c", "name": "ls", "args": {}}, "thoughtSignature": "w"},
    ]  # fmt: skip
    contents = [USER, {"role": "model", "parts": parts}]
    assert again(parse(*contents))["contents"] == contents


@pytest.mark.parametrize(("config", "choice"), [
    ({"mode": "AUTO"}, ToolChoice()),
    ({"mode": "NONE"}, ToolChoice(mode="none")),
    ({"mode": "ANY"}, ToolChoice(mode="required")),
    ({"mode": "ANY", "allowedFunctionNames": ["ls"]}, ToolChoice(mode="tool", name="ls")),
    ({"mode": "ANY", "allowedFunctionNames": ["ls", "cat"]},
     ToolChoice(mode="required", extra={"allowedFunctionNames": ["ls", "cat"]})),
    ({"mode": "VALIDATED"}, ToolChoice(extra={"mode": "VALIDATED"})),
])  # fmt: skip
def test_tool_choices_are_read_and_written(config: Json, choice: ToolChoice) -> None:
    request = parse(USER, toolConfig={"functionCallingConfig": config})
    assert request.tool_choice == choice
    assert again(request)["toolConfig"] == {"functionCallingConfig": config}


def test_nobody_is_asked_to_stream_arguments() -> None:
    config = {"mode": "AUTO", "streamFunctionCallArguments": True}
    request = parse(USER, toolConfig={"functionCallingConfig": config})
    assert again(request)["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}
    with pytest.raises(
        DialectError,
        match="triocept did not request partial arguments of a tool call, but the provider sent them",
    ):
        answered({"functionCall": {"name": "a", "partialArgs": [{"jsonPath": "$.a"}], "willContinue": True}})


def test_schemas_are_json_schema_and_written_as_they_were() -> None:
    openapi = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "enum": ["a"], "nullable": True},
            "many": {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "1", "maxItems": 5},
            "any": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True, "example": 5},
        },
        "required": ["type"],
        "propertyOrdering": ["type", "many", "any"],
    }
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "enum": ["a", None]},
            "many": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 5},
            "any": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}], "examples": [5]},
        },
        "required": ["type"],
    }
    tools = [{"functionDeclarations": [{"name": "f", "parameters": openapi}]}]
    config = {"responseMimeType": "application/json", "responseSchema": openapi}
    request = parse(USER, tools=tools, generationConfig=config)
    assert request.tools[0].parameters == schema
    assert (request.output_format.kind, request.output_format.schema) == ("json_schema", schema)
    document = again(request)
    assert (document["tools"], document["generationConfig"]) == (tools, config)


def test_a_schema_that_was_changed_is_written_changed() -> None:
    tools = [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]
    request = parse(USER, tools=tools)
    changed = Tool(name="f", parameters={"type": "object", "title": "t"}, extra=request.tools[0].extra)
    document = CODEC.render_request(
        Request(dialect="gemini", model="m", messages=request.messages, tools=(changed,))
    )
    assert document["tools"][0]["functionDeclarations"] == [
        {"name": "f", "parametersJsonSchema": {"type": "object", "title": "t"}}
    ]


@pytest.mark.parametrize(("config", "shape"), [
    ({"responseMimeType": "application/json"}, OutputFormat(kind="json_object")),
    ({"responseMimeType": "application/json", "responseJsonSchema": {"a": 1}},
     OutputFormat(kind="json_schema", schema={"a": 1})),
    ({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}, None),
])  # fmt: skip
def test_shapes_of_the_answer_are_read_and_written(config: Json, shape: OutputFormat | None) -> None:
    request = parse(USER, generationConfig=config)
    assert request.output_format == shape
    assert {name: v for name, v in again(request)["generationConfig"].items() if v is not None} == config


@pytest.mark.parametrize(("thinking", "ask"), [
    ({"thinkingBudget": 0}, ReasoningAsk(effort="none")),
    ({"thinkingBudget": -1}, ReasoningAsk(effort="adaptive")),
    ({"thinkingBudget": 99}, ReasoningAsk(budget_tokens=99)),
    ({"thinkingLevel": "HIGH"}, ReasoningAsk(effort="high")),
    ({"includeThoughts": True}, None),
])  # fmt: skip
def test_asks_for_thinking_are_read_and_written(thinking: Json, ask: ReasoningAsk | None) -> None:
    request = parse(USER, generationConfig={"thinkingConfig": thinking})
    assert request.reasoning == ask
    assert again(request)["generationConfig"] == {"thinkingConfig": thinking}


# Answers.


def test_a_whole_answer_is_read() -> None:
    document = {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True}, {"text": "o"}, {"text": "k"},
                        {"functionCall": {"name": "ls", "args": {"a": 1}}, "thoughtSignature": "s"},
                        {"executableCode": {"code": "1"}},
                    ],
                },
                "finishReason": "STOP", "index": 0, "safetyRatings": [1],
            },
        ],
        "usageMetadata": {
            "promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3, "toolUsePromptTokenCount": 2, "totalTokenCount": 20,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
        },
        "modelVersion": "M", "responseId": "r", "createTime": "now",
    }  # fmt: skip
    response = CODEC.parse_response(document)
    assert response.content == (
        Reasoning("hm"),
        Text("ok"),
        ToolCall("ls", '{"a":1}', extra={"thoughtSignature": "s"}),
        Opaque("gemini", {"executableCode": {"code": "1"}}),
    )
    assert (response.stop_reason, response.model, response.id) == ("tool_use", "M", "r")
    assert response.usage == Usage(
        input_tokens=12,
        output_tokens=8,
        cached_tokens=4,
        reasoning_tokens=3,
        extra={"toolUsePromptTokenCount": 2, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}]},
    )
    assert response.extra == {"createTime": "now", "candidates": [{"safetyRatings": [1]}]}
    written = told(response)
    parts = written["candidates"][0]["content"]["parts"]
    assert parts[2]["functionCall"].pop("id").startswith("call_")
    document["candidates"][0]["content"]["parts"][1:3] = [{"text": "ok"}]  # type: ignore[index]
    assert written == document


@pytest.mark.parametrize(("reason", "stop"), [
    ("STOP", "end"),
    ("MAX_TOKENS", "max_tokens"),
    ("SAFETY", "refused"),
    ("RECITATION", "refused"),
    ("PROHIBITED_CONTENT", "refused"),
    ("CONTINUATION", "paused"),
])  # fmt: skip
def test_finish_reasons_are_read_and_written_again(reason: str, stop: StopReason) -> None:
    response = answered({"text": "a"}, reason=reason)
    assert response.stop_reason == stop
    assert told(response)["candidates"][0]["finishReason"] == reason


@pytest.mark.parametrize("reason", [
    "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE", "OTHER", "NEWEST", 5, None,
])  # fmt: skip
def test_a_reason_that_is_no_answer_is_a_failure(reason: str) -> None:
    with pytest.raises(UpstreamError):
        answered({"text": "a"}, reason=reason)
    with pytest.raises(UpstreamError, match="what was wrong"):
        answered(reason="MALFORMED_FUNCTION_CALL", finishMessage="what was wrong")


@pytest.mark.parametrize(
    "candidate",
    [{}, {"content": {}}, {"content": None}, {"content": {"role": "model"}}, {"content": {"parts": []}}],
)
def test_content_and_parts_may_be_missing(candidate: Json) -> None:
    response = CODEC.parse_response({"candidates": [{**candidate, "finishReason": "SAFETY"}]})
    assert (response.content, response.stop_reason) == ((), "refused")


def test_a_blocked_prompt_is_a_refusal_and_has_no_candidate() -> None:
    document = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "M", "responseId": "r"}
    response = CODEC.parse_response(document)
    assert (response.content, response.stop_reason) == ((), "refused")
    written = told(response)
    assert "candidates" not in written
    assert written["promptFeedback"] == {"blockReason": "SAFETY"}
    asked = CHAT.parse_request({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    assert CHAT.render_response(response, asked)["choices"][0]["finish_reason"] == "content_filter"


def test_an_answer_without_candidates_is_a_failure() -> None:
    for document in ({}, {"candidates": []}, {"promptFeedback": {"safetyRatings": []}}):
        with pytest.raises(UpstreamError):
            CODEC.parse_response(document)


def test_a_tool_turn_ends_with_stop_and_its_calls_have_ids() -> None:
    candidate = told(Response.of("a", ToolCall.of("ls", path="/")))["candidates"][0]
    assert candidate["finishReason"] == "STOP"
    assert candidate["content"]["parts"][1]["functionCall"]["id"].startswith("call_")


def test_words_of_refusal_are_a_text_that_ends_with_safety() -> None:
    candidate = told(Response.of(RefusalText("no")))["candidates"][0]
    assert (candidate["content"]["parts"], candidate["finishReason"]) == ([{"text": "no"}], "SAFETY")


def test_usage_counts_thoughts_apart_and_is_estimated_where_nobody_counted() -> None:
    usage = Usage(input_tokens=10, output_tokens=8, cached_tokens=4, reasoning_tokens=3)
    assert told(Response((Text("a"),), usage=usage))["usageMetadata"] == {
        "promptTokenCount": 10,
        "candidatesTokenCount": 5,
        "cachedContentTokenCount": 4,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 18,
    }
    assert told(Response.of("x" * 40))["usageMetadata"]["candidatesTokenCount"] == 10
    half = CODEC.parse_response(
        {
            "candidates": [{"finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 9, "totalTokenCount": 14},
        }
    )
    assert half.usage == Usage(input_tokens=5, output_tokens=9, reasoning_tokens=9)


def test_arguments_that_are_no_object_are_kept_raw() -> None:
    (part,) = told(Response.of(ToolCall("ls", "{cut")))["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["args"] == {"_raw": "{cut"}
    assert answered(part).tool_calls[0].arguments == "{cut"


# Errors.


@pytest.mark.parametrize(("status", "name"), [
    (400, "INVALID_ARGUMENT"),
    (401, "UNAUTHENTICATED"),
    (403, "PERMISSION_DENIED"),
    (404, "NOT_FOUND"),
    (413, "INVALID_ARGUMENT"),
    (422, "INVALID_ARGUMENT"),
    (429, "RESOURCE_EXHAUSTED"),
    (500, "INTERNAL"),
    (502, "INTERNAL"),
    (503, "UNAVAILABLE"),
    (504, "DEADLINE_EXCEEDED"),
    (529, "UNAVAILABLE"),
])  # fmt: skip
def test_an_error_has_the_status_of_its_code(status: int, name: str) -> None:
    document = CODEC.render_error(Failure(status=status, message="m"))
    assert document == {"error": {"code": status, "message": "m", "status": name, "details": []}}


def test_a_wait_and_a_path_are_told_in_the_details() -> None:
    failure = Failure(status=429, message="m", retry_after=17, param="contents[0]", code="insufficient_quota")
    error = CODEC.render_error(failure)["error"]
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert [detail["@type"].rpartition(".")[2] for detail in error["details"]] == ["RetryInfo", "BadRequest"]
    assert error["details"][0]["retryDelay"] == "17s"
    read = CODEC.parse_error(429, {"error": error})
    assert (read.status, read.code, read.retry_after) == (429, "RESOURCE_EXHAUSTED", 17)


def test_a_quota_of_zero_is_not_worth_another_try() -> None:
    error = {"code": 429, "message": "Quota exceeded, limit: 0, model: x", "status": "RESOURCE_EXHAUSTED"}
    assert CODEC.parse_error(429, {"error": error}).should_retry is False
    assert CODEC.parse_error(429, {"error": {**error, "message": "limit: 05"}}).should_retry is None


@pytest.mark.parametrize(("document", "failure"), [
    ([{"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}], (503, "m", "UNAVAILABLE")),
    ({"error": {"message": "m", "status": "NOT_FOUND"}}, (404, "m", "NOT_FOUND")),
    ({"error": "m"}, (502, "m", None)),
    ("m", (502, "m", None)),
    (None, (502, "the provider answered 0", None)),
    ({"error": {"code": "x", "message": 5}}, (502, "5", None)),
])  # fmt: skip
def test_any_error_document_is_read(document: Json, failure: Any) -> None:
    read = CODEC.parse_error(0, document)
    assert (read.status, read.message, read.code) == failure


def test_an_overflow_is_said_in_googles_words() -> None:
    for words in (
        "prompt is too long: 9000 tokens > 8192 maximum",
        "maximum context length is 8192, 9000 given",
    ):
        failure = CHAT.parse_error(400, {"error": {"message": words}})
        error = CODEC.render_error(Failure(status=400, message=str(error_of(failure))))["error"]
        expected = "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."
        assert (error["status"], error["message"]) == ("INVALID_ARGUMENT", expected)
        read = CODEC.parse_error(400, {"error": error})
        assert (read.status, read.code) == (400, OVERFLOW)
        assert isinstance(error_of(read), ContextLengthError)


# The side routes.


def test_tokens_are_counted_for_both_forms() -> None:
    contents = [{"parts": [{"text": "x" * 40}]}]
    for document in ({"contents": contents}, {"generateContentRequest": {"contents": contents}}):
        request = parse_count_request(document, Target(model="m"))
        assert render_token_count(estimate_input_tokens(request)) == {"totalTokens": 10}
    with pytest.raises(DialectError) as caught:
        parse_count_request({"generateContentRequest": {"contents": [5]}}, Target(model="m"))
    assert caught.value.path == "generateContentRequest.contents[0]"


def test_models_are_listed_by_their_full_names() -> None:
    models = render_models(["a", "tunedModels/b"])["models"]
    assert [model["name"] for model in models] == ["models/a", "tunedModels/b"]


# From and into other dialects.


def from_chat(*messages: Json, **fields: Json) -> Json:
    document = CODEC.render_request(CHAT.parse_request({"model": "m", "messages": list(messages), **fields}))
    assert document.pop("model") == "models/m"
    return document


ASK: Json = {"role": "user", "content": "hi"}


def chat_calls(*ids: str) -> Json:
    calls = [{"id": i, "type": "function", "function": {"name": "ls", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def test_a_conversation_of_another_dialect_is_one_that_gemini_takes() -> None:
    document = from_chat(
        {"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, ASK,
        chat_calls("c1", "c2"),
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "system", "content": "mid"}, {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    )  # fmt: skip
    assert document == {
        "systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]},
        "contents": [
            USER,
            {
                "role": "model",
                "parts": [{**call("ls", "c1"), "thoughtSignature": UNSIGNED}, call("ls", "c2")],
            },
            {
                "role": "user",
                "parts": [
                    result("ls", {"output": "one"}, "c1"), result("ls", {"output": "two"}, "c2"),
                    {"text": "mid"}, {"text": "go on"},
                ],
            },
        ],
    }  # fmt: skip


def test_a_conversation_that_begins_with_the_model_has_a_turn_put_before_it() -> None:
    contents = from_chat(chat_calls("c1"))["contents"]
    assert [content["role"] for content in contents] == ["user", "model"]
    assert from_chat({"role": "system", "content": "a"})["contents"][0]["role"] == "user"


def test_images_and_errors_of_results_come_from_another_dialect() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": [image]},
        {"type": "tool_result", "tool_use_id": "b", "content": "oops", "is_error": True},
    ]
    request = ANTHROPIC.parse_request(
        {"model": "m", "max_tokens": 9, "messages": [ASK, {"role": "user", "content": results}]}
    )
    parts = CODEC.render_request(request)["contents"][0]["parts"]
    assert parts == [
        result("unknown_function", {"output": "(see below)"}, "a"),
        result("unknown_function", {"error": "oops"}, "b"),
        {"text": "hi"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
    ]


def test_tools_and_wishes_come_from_another_dialect() -> None:
    tools = [
        {"type": "function", "function": {"name": "ls", "parameters": {"properties": {}}, "strict": True}}
    ]
    document = from_chat(
        ASK,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "ls"}},
        reasoning_effort="high",
        max_completion_tokens=9,
        presence_penalty=0,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}},
        user="u",
        logit_bias={},
    )
    assert document["tools"] == [
        {
            "functionDeclarations": [
                {"name": "ls", "parametersJsonSchema": {"type": "object", "properties": {}}}
            ]
        }
    ]
    assert document["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["ls"]}
    }
    assert document["generationConfig"] == {
        "maxOutputTokens": 9,
        "thinkingConfig": {"thinkingBudget": 16_000, "includeThoughts": True},
        "responseMimeType": "application/json",
        "responseJsonSchema": {"a": 1},
    }
    assert document.keys() == {"contents", "tools", "toolConfig", "generationConfig"}
    assert "toolConfig" not in from_chat(ASK, tool_choice="auto")
    assert "generationConfig" not in from_chat(ASK, reasoning_effort="none")


def test_media_come_from_another_dialect() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://e.org/a.jpg?x"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    assert from_chat({"role": "user", "content": content})["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        {"fileData": {"fileUri": "https://e.org/a.jpg?x", "mimeType": "image/jpeg"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
    ]


def test_a_conversation_of_gemini_reaches_other_dialects() -> None:
    request = CODEC.parse_request(WHOLE, Target(model="m"))
    chat = CHAT.render_request(request)
    assert [message["role"] for message in chat["messages"]] == [
        "system", "user", "assistant", "tool", "tool", "user",
    ]  # fmt: skip
    ids = [each["id"] for each in chat["messages"][2]["tool_calls"]]
    assert [message["tool_call_id"] for message in chat["messages"][3:5]] == ids == ["c1", "triocept_call_1"]
    assert chat["tools"][0]["function"]["parameters"]["type"] == "object"
    assert "thoughtSignature" not in str(chat)
    messages = ANTHROPIC.render_request(request)
    assert [block["type"] for block in messages["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["type"] for block in messages["messages"][2]["content"]] == [
        "tool_result",
        "tool_result",
        "document",
    ]


few = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(data=st.data())
def test_a_request_through_another_dialect_and_back_keeps_the_conversation(data: st.DataObject) -> None:
    other = data.draw(st.sampled_from(["openai_chat", "anthropic_messages"]))
    source, target = data.draw(st.permutations(["gemini", other]))
    request = data.draw(some.any_request(source))
    there = DIALECTS[target].parse_request(DIALECTS[target].render_request(request))
    back = DIALECTS[source].parse_request(DIALECTS[source].render_request(there))
    assert said(back) == said(request)
    assert [tool.name for tool in back.tools] == [tool.name for tool in request.tools]


def said(request: Request) -> Any:
    calls = [call.name for message in request.messages for call in message.tool_calls]
    return request.model, calls, sum(len(message.tool_results) for message in request.messages)


@few
@given(data=st.data())
def test_an_answer_through_another_dialect_tells_the_same_story(data: st.DataObject) -> None:
    other = data.draw(st.sampled_from(["openai_chat", "anthropic_messages"]))
    source, target = data.draw(st.permutations(["gemini", other]))
    response = data.draw(some.any_response(source))
    request = Request(dialect=target, model="m", messages=(Message("user", (Text("hi"),)),))
    there = DIALECTS[target].parse_response(DIALECTS[target].render_response(response, request))
    assert [call.name for call in there.tool_calls] == [call.name for call in response.tool_calls]
    assert there.text.startswith(response.text) or any(
        isinstance(part, RefusalText) for part in response.content
    )
    if response.usage is not None and there.usage is not None:
        counted = msgspec.structs.replace(there.usage, extra=None, cache_write_tokens=None)
        assert counted == msgspec.structs.replace(response.usage, extra=None, cache_write_tokens=None)


def test_inline_data_in_the_url_safe_alphabet_are_read_as_everybody_else_writes_them() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "-_-_AA=="}}  # google-genai's `Part.from_bytes`
    request = CODEC.parse_request({"contents": [{"role": "user", "parts": [part]}]}, Target(model="m"))
    (media,) = request.messages[0].content
    assert isinstance(media, Media)
    assert media.data == "+/+/AA=="


def test_as_much_reasoning_as_the_model_likes_is_asked_for_of_others_too() -> None:
    request = Request(
        dialect="anthropic_messages",
        model="m",
        messages=(Message("user", (Text("hi"),)),),
        reasoning=ReasoningAsk(effort="adaptive"),
    )
    sent = DIALECTS["gemini"].render_request(request)
    assert sent["generationConfig"] == {"thinkingConfig": {"thinkingBudget": -1, "includeThoughts": True}}
