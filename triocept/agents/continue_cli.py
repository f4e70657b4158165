"""Continue's command-line tool, `cn` (measured: 1.5.47)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout
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
    """`cn -p`, allowed to run its tools without asking, with a model that is this rollout.

    Writes `continue/config.yaml`, and keeps its state beside it.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat or messages; responses it speaks with OpenAI's own host alone.
    """
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
