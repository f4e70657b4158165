"""A small agent for `triocept demo`: a loop of model calls and tool calls, with only the standard library.

The agent does not depend on triocept. It calls the model at OPENAI_BASE_URL with OPENAI_API_KEY, as any agent does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen


def write_file(path: str, text: str) -> str:
    Path(path).write_text(text)
    return f"wrote {len(text)} characters to {path}"


def read_file(path: str) -> str:
    return Path(path).read_text()


TOOLS: dict[str, tuple[Callable[..., str], dict[str, str]]] = {
    "write_file": (write_file, {"path": "where", "text": "what"}),
    "read_file": (read_file, {"path": "where"}),
}


def schema(name: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": what} for key, what in TOOLS[name][1].items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"model": "demo-model", "messages": messages, "tools": [schema(name) for name in TOOLS]}
    request = Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
            "content-type": "application/json",
        },
    )
    with urlopen(request) as response:
        message: dict[str, Any] = json.load(response)["choices"][0]["message"]
    return message


def main(task: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    print(f"agent: my task is: {task}", flush=True)
    while True:
        message = ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            print(f"agent: the model says: {message['content']}", flush=True)
            return
        for call in message["tool_calls"]:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            print(f"agent: running {name} {arguments}", flush=True)
            result = TOOLS[name][0](**arguments)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
