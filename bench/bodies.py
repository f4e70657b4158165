"""The documents that are sent: chat completions as a coding agent asks for them.

A body of `size` bytes (to the byte) is, in this order: a system prompt, two tools, a task, then turns of a call of the
assistant and the tool's result (source code, so with quotes, newlines and non-ASCII letters), and a last question that
is filled up to the size. 4 KiB are 5 messages, 64 KiB 75; above that it is the results that grow: 5 MiB are 93.
"""

from __future__ import annotations

import json
from typing import Any

CHAT = "openai_chat"
"""The dialect of these documents."""

_SYSTEM = (
    "You are a coding agent. You work in a git repository, you read before you write, you run the tests after every "
    "change, and you say in one sentence what you did."
)
_TASK = "The test `test_retry_after_is_honoured` fails on main since yesterday. Find out why, and mend it."
_RESULT = (
    'def wait_for(response: Response, attempt: int) -> float:\n    """Seconds until the next try."""\n'
    '    header = response.headers.get("retry-after", "")\n    if header.isdigit():\n'
    "        return float(header)  # naïve: it may be a date\n    return min(60.0, 0.5 * 2**attempt)\n\n\n"
)
_MARGIN = 64
_LARGE = 64 * 1024
"""Bytes; larger bodies have larger results instead of more turns."""


def make_body(size: int, *, stream: bool = False, mark: str = "") -> bytes:
    """A request's body of exactly `size` bytes; with a mark of its own, it is no other's conversation."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _SYSTEM + mark},
        {"role": "user", "content": _TASK},
    ]
    document = {
        "model": "bench",
        "stream": stream,
        "temperature": 0.2,
        "tools": _tools(),
        "messages": messages,
    }
    last = {"role": "user", "content": ""}
    length = len(_encode({**document, "messages": [*messages, last]}))
    for number in range(size):
        turn = make_turn(number, 5 * max(1, size // _LARGE))
        length += sum(len(_encode(message)) + 1 for message in turn)
        if length > size - _MARGIN:
            break
        messages += turn
    messages.append(last)
    missing = size - len(_encode(document))
    if missing < 0:
        raise ValueError(f"a body has at least {size - missing} bytes, not {size}")
    last["content"] = ("Go on. " * (missing // 7 + 1))[:missing]
    return _encode(document)


def make_file(number: int) -> str:
    """A source file of 20 KB, unlike that of any other number."""
    functions = (_RESULT.replace("wait_for", f"wait_for_{number}_{place}") for place in range(60))
    return f"# part_{number}.py\n{''.join(functions)}"


def make_turn(number: int, functions: int = 5) -> list[dict[str, Any]]:
    """A call of the assistant, and its result."""
    call = {
        "id": f"call_{number:024d}",
        "type": "function",
        "function": {"name": "read_file", "arguments": json.dumps({"path": f"src/client/retry_{number}.py"})},
    }
    return [
        {"role": "assistant", "content": "Let me look at the file.", "tool_calls": [call]},
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": f"# retry_{number}.py\n{_RESULT * functions}",
        },
    ]


def _tools() -> list[dict[str, Any]]:
    return [
        _tool("read_file", "Read a file of the repository.", {"path": {"type": "string"}}),
        _tool("run", "Run a command.", {"command": {"type": "string"}, "timeout": {"type": "integer"}}),
    ]


def _tool(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [next(iter(properties))]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _encode(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
