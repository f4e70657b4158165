"""Prepare the agent mini-swe-agent (tested with 2.4.6, with litellm 1.110) for a rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, made, write_json

_FOR_EVER = 2**32
"""Expiry time of the key, in seconds since the epoch; far in the future, because litellm requires a new login if a key
has expired or has no expiry time."""


def mini_swe_agent(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "mini",
    dialect: Literal["openai_chat", "openai_responses"] = "openai_chat",
) -> Launch:
    """Return the command that runs `mini` to its end without confirmation of its tools.

    mini-swe-agent writes its trajectory into `directory`.

    Args:
        dialect: dialect in which mini-swe-agent calls the rollout. Chat completions are never streamed. For the
            Responses API, litellm's provider `chatgpt` is used. This provider always streams, reads the key from a
            file, and puts the instructions of Codex before those of mini-swe-agent.
    """
    refuse_gate(rollout, "mini-swe-agent")
    env = {
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_GLOBAL_CONFIG_DIR": str(made(directory) / "mini-swe-agent"),
    }
    argv = (executable, "-y", "--exit-immediately", "-t", prompt, "-m")
    if dialect == "openai_chat":
        return Launch(argv=(*argv, f"openai/{rollout.model}"), env=env)
    key = {"access_token": rollout.api_key, "account_id": rollout.id, "expires_at": _FOR_EVER}
    write_json(Path(directory) / "chatgpt" / "auth.json", key)
    return Launch(
        argv=(
            *(*argv, f"chatgpt/{rollout.model}"),
            *("-c", "mini.yaml", "-c", "model.model_class=litellm_response"),
        ),
        env={
            **env,
            "CHATGPT_API_BASE": rollout.base_url("openai_responses"),
            "CHATGPT_TOKEN_DIR": str(Path(directory) / "chatgpt"),
        },
    )
