"""The package `langchain-openai`, unchanged: `python langchain_chat.py chat|responses`."""

from __future__ import annotations

import sys
from typing import Any

import pydantic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from scenarios import PIXEL, errors, raised, run, sunny

RESPONSES = sys.argv[1] == "responses"
# OPENAI_BASE_URL and OPENAI_API_KEY are in the environment.
model: Any = ChatOpenAI(model="m", use_responses_api=RESPONSES, stream_usage=True)
once: Any = ChatOpenAI(model="m", use_responses_api=RESPONSES, max_retries=0)
weather = tool("weather")(sunny)


class Town(pydantic.BaseModel):
    """A town."""

    city: str
    people: int


def answer(message: Any) -> Any:
    usage = message.usage_metadata
    return {"text": message.text, "usage": [usage["input_tokens"], usage["output_tokens"]]}


async def whole(name: str) -> Any:
    return answer(await model.ainvoke(name))


async def stream(name: str, asked: Any = model) -> Any:
    message: Any = None
    async for piece in asked.astream(name):
        message = piece if message is None else message + piece
    return answer(message)


async def image(name: str) -> Any:
    url = {"url": f"data:image/png;base64,{PIXEL}"}
    content: Any = [{"type": "text", "text": name}, {"type": "image_url", "image_url": url}]
    return answer(await model.ainvoke([HumanMessage(content)]))


async def tools(name: str) -> Any:
    bound, messages = model.bind_tools([weather]), [HumanMessage(name)]
    while True:
        message = await bound.ainvoke(messages)
        if not message.tool_calls:
            return {"text": message.text}
        results = [ToolMessage(sunny(**call["args"]), tool_call_id=call["id"]) for call in message.tool_calls]
        messages += [message, *results]


async def an_object(name: str) -> Any:
    return (await model.with_structured_output(Town).ainvoke(name)).model_dump()


async def all_errors(name: str) -> Any:
    return await errors(once.ainvoke, lambda exc: exc.status_code)


async def broken(name: str) -> Any:
    return await raised(lambda: stream(name, once))


async def embeddings(name: str) -> Any:
    """Without the table of its tokenizer, which it would fetch from the network."""
    embedder = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
    question = await embedder.aembed_query("refund policy")
    near, far = await embedder.aembed_documents(["Our policy of refunds.", "Bananas ripen."])
    cosines = [sum(a * b for a, b in zip(question, each, strict=True)) for each in (near, far)]
    return {"size": len(question), "nearer": cosines[0] > cosines[1]}


run(
    {
        "whole": whole,
        "stream": stream,
        "image": image,
        "tools": tools,
        "object": an_object,
        "errors": all_errors,
        "broken": broken,
        "embeddings": embeddings,
        "retry": whole,
        "silence": stream,
    }
)
