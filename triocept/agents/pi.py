"""pi (measured: 0.73.1)."""

from __future__ import annotations

from pathlib import Path

from .._rollout.rollout import Rollout
from ._launch import Launch, write_json

__all__ = ["pi"]


def pi(rollout: Rollout, directory: Path, prompt: str, *, executable: str = "pi") -> Launch:
    """`pi -p`, with a provider of its own that is this rollout.

    Writes `.pi/agent/models.json` into `directory`, which is its HOME.
    """
    provider = {
        "baseUrl": rollout.base_url("openai_chat"),
        "api": "openai-completions",
        "apiKey": rollout.api_key,
        "models": [{"id": rollout.model, "name": rollout.model, "contextWindow": 128000, "maxTokens": 8192}],
    }
    write_json(directory / ".pi" / "agent" / "models.json", {"providers": {"triocept": provider}})
    return Launch(
        argv=(executable, "-p", "--provider", "triocept", "--model", rollout.model, prompt),
        env={"HOME": str(directory)},
    )
