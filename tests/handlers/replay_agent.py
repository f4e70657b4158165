"""A small agent with one tool, in two dialects, and a model for it: what is recorded, and replayed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.asking import bearer, url_of
from triocept import Response, Rollout, ScriptedModel, ToolCall, Usage

USAGE = Usage(input_tokens=185_000, output_tokens=50)


def model(folder: str = "/recorded") -> ScriptedModel:
    """Calls the tool twice, and is done."""
    return ScriptedModel(
        [
            Response((ToolCall("look", json.dumps({"path": f"{folder}/a"}), "call_one"),), usage=USAGE),
            Response.of("And then?", ToolCall("look", json.dumps({"path": f"{folder}/b"}), "call_two")),
            "All done.",
        ]
    )


@dataclass
class Agent:
    """Asks until it is told a text without a call."""

    rollout: Rollout
    dialect: str = "openai_chat"
    results: Sequence[str] = ("one", "two")
    stream: bool = False
    folder: str = "/recorded"
    seen: list[Any] = field(default_factory=list)
    """The arguments that it was given."""

    async def run(self, task: str = "Do it.") -> str:
        results = iter(self.results)
        history: list[dict[str, Any]] = [{"role": "user", "content": f"{task} You are in {self.folder}."}]
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            while True:
                body = {"model": "m", "max_tokens": 9, "messages": history, "tools": [self._tool()]}
                answer = await client.post(
                    url_of(self.rollout, self.dialect), json=body, headers=bearer(self.rollout)
                )
                answer.raise_for_status()
                said, calls, message = self._read(answer.json())
                if not calls:
                    return said
                history.append(message)
                for id_, arguments in calls:
                    self.seen.append(arguments)
                    history.append(self._result(id_, next(results)))

    def _tool(self) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        if self.dialect == "openai_chat":
            return {"type": "function", "function": {"name": "look", "parameters": schema}}
        return {"name": "look", "input_schema": schema}

    def _read(self, answer: dict[str, Any]) -> tuple[str, list[tuple[str, Any]], dict[str, Any]]:
        """What it was told, the calls, and the message that tells it again."""
        if self.dialect == "openai_chat":
            message = answer["choices"][0]["message"]
            calls = message.get("tool_calls") or []
            parsed = [(call["id"], json.loads(call["function"]["arguments"])) for call in calls]
            return message["content"] or "", parsed, message
        content = answer["content"]
        said = "".join(block["text"] for block in content if block["type"] == "text")
        uses = [(block["id"], block["input"]) for block in content if block["type"] == "tool_use"]
        return said, uses, {"role": "assistant", "content": content}

    def _result(self, id_: str, text: str) -> dict[str, Any]:
        if self.dialect == "openai_chat":
            return {"role": "tool", "tool_call_id": id_, "content": text}
        return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id_, "content": text}]}


AGENT = """
import json, os, sys, time, urllib.request
history = [{"role": "user", "content": "Do it. You are in /recorded."}]
schema = {"type": "object", "properties": {"path": {"type": "string"}}}
tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
while True:
    body = json.dumps({"model": "m", "messages": history, "tools": [tool]}).encode()
    head = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, head)
    try:
        message = json.load(urllib.request.urlopen(asked, timeout=60))["choices"][0]["message"]
    except urllib.error.HTTPError as exc:
        sys.exit(exc.read().decode())
    if not message.get("tool_calls"):
        print(message["content"])
        break
    history.append(message)
    for call in message["tool_calls"]:
        history.append({"role": "tool", "tool_call_id": call["id"], "content": f"{os.getpid()} {time.time()}"})
"""
"""The same as a program of its own, in chat completions; its tool gives something else each time."""
