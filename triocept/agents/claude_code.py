"""Prepare the agent Claude Code (tested with 2.1.197, 2.1.331 and 2.1.332) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._hooks import claude_hooks
from ._launch import Directory, Launch, made
from ._mcp import claude_options


def claude_code(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "claude") -> Launch:
    """Return the command that runs `claude -p` without confirmation of its tools.

    Claude Code finds the rollout through environment variables. Files are written only if the rollout has tools
    (`mcp.json`) or a gate (`gate.json`). The variable `IS_SANDBOX` makes Claude Code run tools without confirmation
    even if the user is root.
    """
    options, env = claude_options(rollout, directory)
    hooks = claude_hooks(rollout, directory)
    return Launch(
        argv=(executable, "-p", prompt, "--dangerously-skip-permissions", *options, *hooks),
        env={"IS_SANDBOX": "1", "CLAUDE_CONFIG_DIR": str(made(directory) / "claude"), **env},
    )
