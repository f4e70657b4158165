"""The package `pydantic-ai-slim`, unchanged: `python pydantic_ai_agent.py chat|responses|anthropic`."""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

import pydantic
from pydantic_ai import Agent, BinaryContent, ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from scenarios import PIXEL, errors, raised, run, sunny

KEY = os.environ["OPENAI_API_KEY"]
OPENAI = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key=KEY)
MODEL: Any = {
    "chat": lambda: OpenAIChatModel("m", provider=OPENAI),
    "responses": lambda: OpenAIResponsesModel("m", provider=OPENAI),
    "anthropic": lambda: AnthropicModel("claude-m", provider=AnthropicProvider(api_key=KEY)),
}[sys.argv[1]]()


class Town(pydantic.BaseModel):
    city: str
    people: int


agent: Any = Agent(MODEL)
with_tools: Any = Agent(MODEL)
with_tools.tool_plain(name="weather")(sunny)


def answer(result: Any, text: str | None = None) -> Any:
    return {"text": text or result.output, "usage": [result.usage.input_tokens, result.usage.output_tokens]}


async def whole(name: str) -> Any:
    return answer(await agent.run(name))


async def stream(name: str) -> Any:
    async with agent.run_stream(name) as result:
        text = "".join([piece async for piece in result.stream_text(delta=True)])
        return answer(result, text)


async def image(name: str) -> Any:
    return answer(await agent.run([name, BinaryContent(base64.b64decode(PIXEL), media_type="image/png")]))


async def tools(name: str) -> Any:
    return {"text": (await with_tools.run(name)).output}


async def tools_streamed(name: str) -> Any:
    async def watch(context: Any, events: Any) -> None:
        async for _ in events:
            pass

    return {"text": (await with_tools.run(name, event_stream_handler=watch)).output}


async def an_object(name: str) -> Any:
    return (await Agent(MODEL, output_type=Town).run(name)).output.model_dump()


async def all_errors(name: str) -> Any:
    def describe(exc: Any) -> Any:
        return exc.status_code if isinstance(exc, ModelHTTPError) else repr(exc)

    return await errors(agent.run, describe)


async def broken(name: str) -> Any:
    return await raised(lambda: stream(name))


run(
    {
        "whole": whole,
        "stream": stream,
        "image": image,
        "tools": tools,
        "tools streamed": tools_streamed,
        "object": an_object,
        "errors": all_errors,
        "broken": broken,
        "retry": whole,
        "silence": stream,
    }
)
