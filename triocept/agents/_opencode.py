"""The configuration of opencode, and of kilo, which was made from it: a provider that is the rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from .._rollout.rollout import Rollout
from ._mcp import opencode_servers

__all__ = ["Dialect", "configuration", "state"]

Dialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
_PROVIDERS: dict[str, str] = {
    "openai_chat": "@ai-sdk/openai-compatible",
    "openai_responses": "@ai-sdk/openai",
    "anthropic_messages": "@ai-sdk/anthropic",
}


def configuration(rollout: Rollout, dialect: Dialect) -> dict[str, Any]:
    """What their JSON file says."""
    base = rollout.base_url(dialect)
    options = {
        "baseURL": base if base.endswith("/v1") else f"{base}/v1",  # the AI SDK adds no /v1 itself
        "apiKey": rollout.api_key,
    }
    provider = {
        "npm": _PROVIDERS[dialect],
        "options": options,
        "models": {rollout.model: {"limit": {"context": 128000, "output": 8192}}},
    }
    return {
        "model": f"triocept/{rollout.model}",
        "autoupdate": False,
        "share": "disabled",
        "provider": {"triocept": provider},
        **opencode_servers(rollout),
    }


def state(directory: Path) -> dict[str, str]:
    """The variables that keep all they write in `directory`."""
    return {
        f"XDG_{kind}_HOME": str(directory / kind.lower()) for kind in ("DATA", "CACHE", "STATE", "CONFIG")
    }
