"""Prepare the agent mistral-vibe (tested with 3.0.2) for a rollout."""

from __future__ import annotations

import json

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, UsualDialect, made, write_text

_STYLES: dict[str, str] = {
    "openai_chat": "openai",
    "openai_responses": "openai-responses",
    "anthropic_messages": "anthropic",
}


def mistral_vibe(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "vibe",
    dialect: UsualDialect = "openai_chat",
) -> Launch:
    """Return the command that runs `vibe -p` without confirmation of its tools, with the rollout as its provider.

    The function writes `vibe/config.toml`. This file also disables generated titles, telemetry and experiments.
    mistral-vibe keeps its state in the same directory.
    """
    refuse_gate(rollout, "mistral-vibe")
    home = made(directory) / "vibe"
    write_text(
        home / "config.toml",
        f"""active_model = "triocept"
enable_telemetry = false
enable_update_checks = false
enable_auto_update = false

[session_logging]
generate_titles = false

[experiments]
enable = false

[[providers]]
name = "triocept"
api_base = "{rollout.base_url(dialect)}"
api_key_env_var = "TRIOCEPT_API_KEY"
api_style = "{_STYLES[dialect]}"
backend = "generic"

[[models]]
name = {json.dumps(rollout.model)}
provider = "triocept"
alias = "triocept"
""",
    )
    return Launch(
        argv=(executable, "--auto-approve", "--trust", "-p", prompt),
        env={"VIBE_HOME": str(home), **_NO_KEYRING},
    )


_NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
"""Environment variable that disables the keyring. mistral-vibe would search the keyring for keys of other providers,
and a desktop would then show a prompt."""
