"""mini-swe-agent (measured: 2.4.6)."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, made

__all__ = ["mini_swe_agent"]


def mini_swe_agent(
    rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "mini"
) -> Launch:
    """`mini`, to its end without asking. It speaks chat completions, and does not stream.

    Writes nothing; its trajectory goes into `directory`.
    """
    return Launch(
        argv=(executable, "-y", "--exit-immediately", "-t", prompt, "-m", f"openai/{rollout.model}"),
        env={
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_GLOBAL_CONFIG_DIR": str(made(directory) / "mini-swe-agent"),
        },
    )
