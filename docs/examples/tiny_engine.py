"""Stands for vLLM: an inference server whose tokens are bytes, and whose model knows one tool."""

from contextlib import asynccontextmanager
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio

app = QuartTrio(__name__)


def said(message):
    """A message as the model's template writes it. The line break ends a turn."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    words = [message.get("content") or "", *(str(call["arguments"]) for call in calls)]
    return f"{message['role']}: {' '.join(filter(None, words))}\n"


@app.post("/v1/chat/completions")
async def complete():
    asked = await request.get_json()
    prompt = "".join(map(said, asked["messages"])) + "assistant: "
    message = {"role": "assistant", "content": "It is 42."}
    if asked["messages"][-1]["role"] != "tool":
        function = {"name": "bash", "arguments": '{"command": "echo $((6 * 7))"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    ids = list(said(message).removeprefix("assistant: ").encode())
    logprobs = [{"token": chr(each), "logprob": -0.125} for each in ids]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
        "token_ids": ids,
        "logprobs": {"content": logprobs},
    }
    counts = {"prompt_tokens": len(prompt.encode()), "completion_tokens": len(ids)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [choice],
        "prompt_token_ids": list(prompt.encode()),
        "usage": {**counts, "total_tokens": sum(counts.values())},
    }


@asynccontextmanager
async def serve_engine():
    """Run it; gives its base URL."""
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, config))
        yield f"{url}/v1"
        nursery.cancel_scope.cancel()
