"""Prepare the agent Continue, as the command-line tool `cn` (tested with 1.5.47), for a rollout."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, made, write_json

Dialect: TypeAlias = Literal["openai_chat", "anthropic_messages"]


def continue_cli(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "cn",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """Return the command that runs `cn -p` without confirmation of its tools, with the rollout as its model.

    The function writes `continue/config.yaml`. Continue keeps its state in the same directory.

    Args:
        dialect: dialect in which Continue calls the rollout: chat completions or Anthropic's Messages API. Continue
            supports the Responses API only at OpenAI's own host.
    """
    refuse_gate(rollout, "Continue")
    home = made(directory) / "continue"
    model = {
        "name": "triocept",
        "model": rollout.model,
        "apiKey": rollout.api_key,
        "roles": ["chat"],
        "capabilities": ["tool_use"],
        **_provider(rollout, dialect),
    }
    # JSON is YAML, too.
    config = write_json(
        home / "config.yaml", {"name": "triocept", "version": "1.0.0", "schema": "v1", "models": [model]}
    )
    return Launch(
        argv=(executable, "--config", str(config), "-p", "--auto", prompt),
        env={"CONTINUE_GLOBAL_DIR": str(home), "CONTINUE_CLI_ENABLE_TELEMETRY": "0"},
    )


def _provider(rollout: Rollout, dialect: Dialect) -> dict[str, str]:
    base = rollout.base_url(dialect)
    if dialect == "anthropic_messages":
        return {"provider": "anthropic", "apiBase": f"{base}/v1/"}
    return {"provider": "openai", "apiBase": base}
