"""Prepare the agent kimi-code (tested with 2.1.0), which needs Node 22.19 or newer, for a rollout."""

from __future__ import annotations

import json

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, UsualDialect, made, write_text

_KIND = {
    "openai_chat": "openai",
    "openai_responses": "openai_responses",
    "anthropic_messages": "anthropic",
}
"""Names of the dialects in kimi-code's configuration."""


def kimi_code(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "kimi",
    dialect: UsualDialect = "openai_chat",
) -> Launch:
    """Return the command that runs `kimi -p`, with the rollout as its provider.

    With `-p`, kimi-code runs its tools without confirmation.

    The function writes `kimi-code/config.toml`. kimi-code keeps its state in the same directory.
    """
    refuse_gate(rollout, "kimi-code")
    home = made(directory) / "kimi-code"
    configuration = f"""default_model = "triocept"
telemetry = false

[models.triocept]
provider = "triocept"
model = {json.dumps(rollout.model)}
max_context_size = 128000

[providers.triocept]
type = "{_KIND[dialect]}"
base_url = "{rollout.base_url(dialect)}"
api_key = "{rollout.api_key}"
"""
    write_text(home / "config.toml", configuration)
    return Launch(
        argv=(executable, "-p", prompt),
        env={"KIMI_CODE_HOME": str(home), "KIMI_CODE_NO_AUTO_UPDATE": "1", "KIMI_DISABLE_TELEMETRY": "1"},
    )
