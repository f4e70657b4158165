"""Codex (measured: 0.169.0)."""

from __future__ import annotations

import json
from pathlib import Path

from .._rollout.rollout import Rollout
from ._launch import Launch, made, write_text

__all__ = ["codex"]


def codex(
    rollout: Rollout,
    directory: Path,
    prompt: str,
    *,
    executable: str = "codex",
    websocket: bool = False,
) -> Launch:
    """`codex exec`, without sandbox and approvals, with a provider of its own that is this rollout.

    Writes `codex/config.toml`. Half an hour of silence is allowed (300 s by default; only events count).

    Args:
        rollout: whose calls it makes.
        directory: where its configuration goes.
        prompt: what it is to do.
        executable: its command.
        websocket: whether it may try a websocket first; a provider that does is answered 426, and goes on by POST.
    """
    home = made(directory) / "codex"
    write_text(
        home / "config.toml",
        f"""model = {json.dumps(rollout.model)}
model_provider = "triocept"

[model_providers.triocept]
name = "triocept"
base_url = "{rollout.base_url("openai_responses")}"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
stream_idle_timeout_ms = 1800000
supports_websockets = {"true" if websocket else "false"}
""",
    )
    return Launch(
        argv=(
            *(executable, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            prompt,
        ),
        env={"CODEX_HOME": str(home)},
    )
