"""Prepare the agent GitHub Copilot, as a command-line tool (tested with 1.0.102), for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._hooks import copilot_hooks
from ._launch import Directory, Launch, UsualDialect, made, write_json


def copilot(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "copilot",
    dialect: UsualDialect = "openai_chat",
    websocket: bool = False,
) -> Launch:
    """Return the command that runs `copilot -p` without confirmation of its tools.

    Copilot finds the rollout through environment variables. If the rollout has a gate, the function writes `gate.py`
    and a plugin. Copilot needs no token, but exits with status 1 if `GH_TOKEN` or
    `GITHUB_TOKEN` contains a classic token (`ghp_…`). If so, remove the variable from Copilot's environment. Copilot
    keeps its sessions in `directory`. So the command `copilot --resume=…`, which Copilot prints before it exits, must
    be run with the same COPILOT_HOME.

    Args:
        websocket: if True, Copilot sends its calls over a websocket.
    """
    home = made(directory) / "copilot"
    hooks = copilot_hooks(rollout, directory)
    provider = {
        "COPILOT_PROVIDERS_CONFIG": str(write_json(home / "providers.json", {})),  # no other provider
        "COPILOT_PROVIDER_TYPE": "anthropic" if dialect == "anthropic_messages" else "openai",
        "COPILOT_PROVIDER_BASE_URL": rollout.base_url(dialect),
        "COPILOT_PROVIDER_WIRE_API": "responses" if dialect == "openai_responses" else "completions",
        "COPILOT_PROVIDER_TRANSPORT": "websockets" if websocket else "http",
    }
    return Launch(
        argv=(executable, "-p", prompt, "--allow-all-tools", *hooks),
        env={"COPILOT_HOME": str(home), **provider},
    )
