"""Prepare the agent Codex (tested with 0.169.0 and 0.171.0) for a rollout."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

from .._rollout.hooks import HOOKS
from .._rollout.rollout import Rollout
from ._hooks import codex_hooks
from ._launch import Directory, Launch, made, write_json, write_text
from ._mcp import codex_config

Provider: TypeAlias = Literal["custom", "built_in"]


def codex(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "codex",
    provider: Provider = "custom",
    websocket: bool = False,
) -> Launch:
    """Return the command that runs `codex exec` without sandbox and approvals, with the rollout as its provider.

    The function writes `codex/config.toml`. For the built-in provider, it also writes `codex/auth.json`, as `codex
    login --with-api-key` does. If the rollout has a gate, the function also writes `gate.py`, which Codex runs as a
    hook.

    Args:
        provider: `custom` defines a new provider in Codex. Codex then waits up to half an hour for the next event
            (default of Codex: 300 s). `built_in` changes only the URL of the built-in provider, which users with an
            OpenAI key have. The time limits of the built-in provider are fixed.
        websocket: if True, Codex first tries a websocket when it uses the custom provider. With the built-in provider,
            Codex always first tries a websocket.
    """
    home = made(directory) / "codex"
    base_url = rollout.base_url("openai_responses")
    if provider == "built_in":
        config = f'openai_base_url = "{base_url}"\n'
        write_json(home / "auth.json", {"auth_mode": "apikey", "OPENAI_API_KEY": rollout.api_key})
    else:
        config = f"""model_provider = "triocept"

[model_providers.triocept]
name = "triocept"
base_url = "{base_url}"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
stream_idle_timeout_ms = 1800000
supports_websockets = {"true" if websocket else "false"}
"""
    path = home / "config.toml"
    hooks = codex_hooks(rollout, directory, path)
    more = f"{codex_config(rollout)}{hooks}"
    write_text(path, f"model = {json.dumps(rollout.model, ensure_ascii=False)}\n{config}{more}")
    enabled = (
        ("-c", "features.hooks=true") if hooks else ()
    )  # for a trusted project, whose settings replace the file's
    return Launch(
        argv=(
            *(executable, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *(*enabled, prompt),
        ),
        env={"CODEX_HOME": str(home)},
        ungated=tuple(sorted(HOOKS["codex"].unasked)),
    )
