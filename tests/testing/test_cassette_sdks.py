"""One application with a tool, written for each official SDK: what one of them has recorded answers the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triocept import Exchange, ToolCall
from triocept.testing import SyncRollout, fake_model, use_cassette

SYSTEM = "Answer with what the tool finds."
QUESTION = "How warm is it in Paris?"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FOUND = {"celsius": 18, "sky": "clear"}


async def real_model(exchange: Exchange) -> None:
    """Calls the tool, and says what that has found."""
    if exchange.request.tool_results:
        await exchange.respond(f"It found {exchange.request.tool_results[0].text}")
    else:
        await exchange.respond(ToolCall.of("weather", city="Paris"))


def with_chat(model: SyncRollout) -> str:
    function = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    with model.client("openai_chat") as client:
        while True:
            answer = client.chat.completions.create(
                model="m-2026-01-31", messages=messages, tools=[{"type": "function", "function": function}]
            )
            said = answer.choices[0].message
            if not said.tool_calls:
                return str(said.content)
            messages.append(said)
            for call in said.tool_calls:
                assert json.loads(call.function.arguments) == {"city": "Paris"}
                messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(FOUND)})


def with_responses(model: SyncRollout) -> str:
    tool = {
        "type": "function", "name": "weather", "description": "The weather.", "parameters": SCHEMA,
        "strict": True,
    }  # fmt: skip
    with model.client("openai_responses") as client:
        answer = client.responses.create(model="m", instructions=SYSTEM, input=QUESTION, tools=[tool])
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": json.dumps(FOUND, indent=2)}
            for item in answer.output
            if item.type == "function_call"
        ]
        history = [
            {"role": "user", "content": QUESTION},
            *[item.to_dict() for item in answer.output],
            *results,
        ]
        answer = client.responses.create(model="m", instructions=SYSTEM, input=history, tools=[tool])
        return str(answer.output_text)


def with_messages(model: SyncRollout) -> str:
    tool: Any = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with model.client("anthropic_messages") as client:
        while True:
            with client.messages.stream(
                model="m",
                max_tokens=100,
                system=[{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
                messages=messages,
                tools=[tool],
            ) as stream:
                answer = stream.get_final_message()
            if answer.stop_reason != "tool_use":
                return str(answer.content[0].text)
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": json.dumps(FOUND)}
                for block in answer.content
                if block.type == "tool_use"
            ]
            messages += [
                {"role": "assistant", "content": answer.content},
                {"role": "user", "content": results},
            ]


def with_genai(model: SyncRollout) -> str:
    from google import genai
    from google.genai import types

    def weather(city: str) -> dict[str, Any]:
        """The weather."""
        return FOUND

    declaration = types.FunctionDeclaration(
        name="weather", description="The weather.", parameters_json_schema=SCHEMA
    )
    config = types.GenerateContentConfig(
        system_instruction=SYSTEM, tools=[types.Tool(function_declarations=[declaration])], temperature=0.1
    )
    client = genai.Client(
        api_key=model.api_key, http_options=types.HttpOptions(base_url=model.base_url("gemini"))
    )
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=QUESTION)])]
    with client:
        while True:
            answer = client.models.generate_content(model="m", contents=contents, config=config)
            if not answer.function_calls:
                return str(answer.text)
            contents.append(answer.candidates[0].content)  # type: ignore[index]
            parts = [
                types.Part.from_function_response(name=str(call.name), response=weather(**(call.args or {})))
                for call in answer.function_calls
            ]
            contents.append(types.Content(role="user", parts=parts))


def with_ollama(model: SyncRollout) -> str:
    import ollama

    tool: Any = {
        "type": "function",
        "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA},
    }
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    with ollama.Client(
        host=model.base_url("ollama"), headers={"authorization": f"Bearer {model.api_key}"}
    ) as client:
        while True:
            answer = client.chat(model="m", messages=messages, tools=[tool])
            if not answer.message.tool_calls:
                return str(answer.message.content)
            messages.append(answer.message)
            messages += [{"role": "tool", "tool_name": "weather", "content": json.dumps(FOUND)}]


APPLICATIONS: dict[str, Callable[[SyncRollout], str]] = {
    "openai's chat": with_chat,
    "openai's responses": with_responses,
    "anthropic's": with_messages,
    "google's": with_genai,
    "ollama's": with_ollama,
}


@pytest.mark.parametrize("recorded", APPLICATIONS)
def test_what_one_sdk_has_recorded_answers_all(recorded: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with use_cassette(path, record="once", upstream=real_model) as cassette:
        with fake_model(handler=cassette, environ=False) as model:
            assert APPLICATIONS[recorded](model).startswith("It found {")
    for application in APPLICATIONS.values():
        with use_cassette(path) as cassette, fake_model(handler=cassette, environ=False) as model:
            assert json.loads(application(model).removeprefix("It found ")) == FOUND
            assert cassette.unused == ()
