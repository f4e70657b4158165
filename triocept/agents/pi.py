"""Prepare the agent pi (tested with 0.73.1) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, UsualDialect, made, write_json


def pi(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "pi",
    dialect: UsualDialect = "openai_chat",
) -> Launch:
    """Return the command that runs `pi -p`, with the rollout as its provider.

    The function writes `.pi/agent/models.json` into `directory`, which becomes pi's HOME.
    """
    refuse_gate(rollout, "pi")
    directory = made(directory)
    provider = {
        "baseUrl": rollout.base_url(dialect),
        "api": _APIS[dialect],
        "apiKey": rollout.api_key,
        "models": [{"id": rollout.model, "name": rollout.model, "contextWindow": 128000, "maxTokens": 8192}],
    }
    write_json(directory / ".pi" / "agent" / "models.json", {"providers": {"triocept": provider}})
    return Launch(
        argv=(executable, "-p", "--provider", "triocept", "--model", rollout.model, prompt),
        env={"HOME": str(directory)},
    )


_APIS: dict[str, str] = {
    "openai_chat": "openai-completions",
    "openai_responses": "openai-responses",
    "anthropic_messages": "anthropic-messages",
}
