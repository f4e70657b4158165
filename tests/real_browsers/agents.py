"""An agent that speaks Messages, with a system prompt and tools that can change."""

from __future__ import annotations

from typing import Any

import httpx2

import triocept

SYSTEM = "You are a coding agent.\n" + "\n".join(f"Rule {number}: keep it small." for number in range(30))
TOOLS: list[dict[str, Any]] = [
    {"name": name, "description": f"The tool {name}.", "input_schema": {"type": "object"}}
    for name in ("Bash", "Edit", "Task")
]


class Agent:
    """One conversation of a rollout's agent."""

    def __init__(self, client: httpx2.AsyncClient, rollout: triocept.Rollout, system: str = SYSTEM) -> None:
        self.client = client
        self.rollout = rollout
        self.system = system
        self.tools = TOOLS
        self.messages: list[dict[str, Any]] = []

    async def call(self, text: str | None = None, *, stream: bool = False) -> list[dict[str, Any]]:
        """Send the conversation, with a new message of the user; return the parts of the answer."""
        if text is not None:
            self.messages.append({"role": "user", "content": text})
        body = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 1000,
            "system": self.system,
            "messages": self.messages,
            "tools": self.tools,
            "stream": stream,
        }
        response = await self.client.post(
            f"{self.rollout.base_url('anthropic_messages').removesuffix('/v1')}/v1/messages",
            headers={"x-api-key": self.rollout.api_key, "user-agent": "claude-cli/2.1.0"},
            json=body,
            timeout=60,
        )
        if stream or response.status_code != 200:
            return []
        content: list[dict[str, Any]] = response.json()["content"]
        self.messages.append({"role": "assistant", "content": content})
        return content

    def result(self, content: list[dict[str, Any]], text: str, *, is_error: bool = False) -> None:
        """Add the results of the tool calls of an answer."""
        results = [
            {"type": "tool_result", "tool_use_id": part["id"], "content": text, "is_error": is_error}
            for part in content
            if part["type"] == "tool_use"
        ]
        self.messages.append({"role": "user", "content": results})
