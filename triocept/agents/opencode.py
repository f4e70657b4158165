"""opencode (measured: 1.18.33)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, made, write_json
from ._mcp import opencode_servers

__all__ = ["opencode"]


def opencode(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "opencode",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """`opencode run`, with a provider of its own that is this rollout.

    Its `--title` keeps it from a call for one beside the first.

    Writes `opencode.json`, and keeps its state in `directory`.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat, responses or messages.
    """
    directory = made(directory)
    package, base = _PROVIDERS[dialect], rollout.base_url(dialect)
    options = {
        "baseURL": base if base.endswith("/v1") else f"{base}/v1",  # the AI SDK adds no /v1 itself
        "apiKey": rollout.api_key,
    }
    provider = {
        "npm": package,
        "options": options,
        "models": {rollout.model: {"limit": {"context": 128000, "output": 8192}}},
    }
    config = write_json(
        directory / "opencode.json",
        {
            "model": f"triocept/{rollout.model}",
            "autoupdate": False,
            "share": "disabled",
            "provider": {"triocept": provider},
            **opencode_servers(rollout),
        },
    )
    state = {
        f"XDG_{kind}_HOME": str(directory / kind.lower()) for kind in ("DATA", "CACHE", "STATE", "CONFIG")
    }
    return Launch(
        argv=(executable, "run", "--title", "triocept", prompt), env={"OPENCODE_CONFIG": str(config), **state}
    )


Dialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
_PROVIDERS: dict[str, str] = {
    "openai_chat": "@ai-sdk/openai-compatible",
    "openai_responses": "@ai-sdk/openai",
    "anthropic_messages": "@ai-sdk/anthropic",
}
