"""Prepare the agent gemini-cli (tested with 0.61.0) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._hooks import gemini_hooks
from ._launch import Directory, Launch, made, write_json
from ._mcp import gemini_servers


def gemini_cli(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "gemini") -> Launch:
    """Return the command that runs `gemini -p` without confirmation of its tools.

    The command names the model with `-m`. Without this option, gemini-cli would call a router model before each turn.
    The function writes `.gemini/settings.json` into `directory`, which becomes gemini-cli's HOME. If the rollout has a
    gate, the function also writes `gate.py`, which gemini-cli runs as a hook.
    """
    directory = made(directory)
    write_json(
        directory / ".gemini" / "settings.json",
        {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False},
            **gemini_servers(rollout),
            **gemini_hooks(rollout, directory),
        },
    )
    return Launch(
        argv=(executable, "-p", prompt, "-m", rollout.model, "--yolo", "--skip-trust"),
        # With two keys, gemini-cli prints four warnings.
        env={"HOME": str(directory), "GEMINI_CLI_HOME": str(directory), "GOOGLE_API_KEY": None},
    )
