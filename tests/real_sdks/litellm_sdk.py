"""The package `litellm`, unchanged: `python litellm_sdk.py chat|anthropic|responses sync|async`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import litellm
from scenarios import PIXEL, WEATHER, errors, raised, run, sunny

litellm.suppress_debug_info = True
API, MODE = sys.argv[1:]
ASYNC = MODE == "async"
PROVIDER: Any = {
    "chat": {"model": "openai/m", "api_base": os.environ["OPENAI_BASE_URL"]},
    # Of a model that it does not know, litellm believes that it cannot stream responses.
    "responses": {"model": "openai/gpt-4.1", "api_base": os.environ["OPENAI_BASE_URL"]},
    "anthropic": {
        "model": "anthropic/claude-m",
        "api_base": os.environ["ANTHROPIC_BASE_URL"],
        "max_tokens": 1000,
    },
}[API] | {"api_key": os.environ["OPENAI_API_KEY"]}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


async def ask(content: Any, **more: Any) -> Any:
    messages = (
        content
        if isinstance(content, list) and "role" in content[0]
        else [{"role": "user", "content": content}]
    )
    how = {**PROVIDER, "messages": messages, "num_retries": 0, "max_retries": 0, **more}
    return await litellm.acompletion(**how) if ASYNC else litellm.completion(**how)


async def chunks_of(stream: Any) -> Any:
    if ASYNC:
        async for chunk in stream:
            yield chunk
    else:
        for chunk in stream:
            yield chunk


def answer(response: Any) -> Any:
    usage = response.usage
    return {
        "text": response.choices[0].message.content,
        "usage": [usage.prompt_tokens, usage.completion_tokens],
    }


async def pieces(name: str) -> Any:
    chunks = [
        chunk
        async for chunk in chunks_of(await ask(name, stream=True, stream_options={"include_usage": True}))
    ]
    return answer(litellm.stream_chunk_builder(chunks))


async def image(name: str) -> Any:
    url = {"url": f"data:image/png;base64,{PIXEL}"}
    return answer(await ask([{"type": "text", "text": name}, {"type": "image_url", "image_url": url}]))


async def reasoning(name: str) -> Any:
    message = (await ask(name)).choices[0].message
    return {"reasoning": message.reasoning_content, "text": message.content}


async def tools(name: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": name}]
    while True:
        response = await ask(messages, tools=TOOLS, **more)
        if more:
            response = litellm.stream_chunk_builder([chunk async for chunk in chunks_of(response)])
        message = response.choices[0].message
        if not message.tool_calls:
            return {"text": message.content}
        messages.append(message.model_dump())
        for call in message.tool_calls:
            content = sunny(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})


async def an_object(name: str) -> Any:
    form = {"type": "json_schema", "json_schema": {"name": "Town", "schema": SCHEMA, "strict": True}}
    return json.loads((await ask(name, response_format=form)).choices[0].message.content)


async def broken(name: str) -> Any:
    return await raised(lambda: pieces(name))


async def all_errors(name: str) -> Any:
    return await errors(ask, lambda exc: exc.status_code)


async def retry(name: str) -> Any:
    return answer(await ask(name, max_retries=2, num_retries=None))


async def respond(given: Any, **more: Any) -> Any:
    how = {**PROVIDER, "input": given, **more}
    return await litellm.aresponses(**how) if ASYNC else litellm.responses(**how)


def told(response: Any) -> Any:
    texts = [c.text for item in response.output if item.type == "message" for c in item.content]
    return {"text": "".join(texts), "usage": [response.usage.input_tokens, response.usage.output_tokens]}


async def whole_response(name: str) -> Any:
    return told(await respond(name))


async def streamed_response(name: str, **more: Any) -> Any:
    events = [event async for event in chunks_of(await respond(name, stream=True, **more))]
    return told(events[-1].response)


async def response_tools(name: str) -> Any:
    flat = [{"type": "function", **TOOLS[0]["function"]}]
    first = await respond(name, tools=flat)
    results = [
        {"type": "function_call_output", "call_id": c.call_id, "output": sunny(**json.loads(c.arguments))}
        for c in first.output
        if c.type == "function_call"
    ]
    last = await respond(results, tools=flat, previous_response_id=first.id)
    return {"text": told(last)["text"]}


async def response_errors(name: str) -> Any:
    return await errors(lambda text: respond(text, max_retries=0), lambda exc: exc.status_code)


async def whole(name: str) -> Any:
    return answer(await ask(name))


async def tools_streamed(name: str) -> Any:
    return await tools(name, stream=True)


run(
    {
        "whole": whole_response,
        "stream": streamed_response,
        "tools": response_tools,
        "errors": response_errors,
        "silence": streamed_response,
    }
    if API == "responses"
    else {
        "whole": whole,
        "stream": pieces,
        "reasoning": reasoning,
        "image": image,
        "tools": tools,
        "tools streamed": tools_streamed,
        "object": an_object,
        "errors": all_errors,
        "broken": broken,
        **(
            {"retry": retry} if API == "chat" else {}
        ),  # to Anthropic, litellm repeats by itself, after seconds
        "silence": pieces,
    }
)
