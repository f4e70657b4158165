"""Claude Code (measured: 2.1.197, 2.1.331 and 2.1.332)."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, made
from ._mcp import claude_options


def claude_code(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "claude") -> Launch:
    """`claude -p`, allowed to run its tools without asking.

    The environment is enough; where the rollout has tools, it writes `mcp.json`. `IS_SANDBOX` lets it do so as root,
    too.
    """
    options, env = claude_options(rollout, directory)
    return Launch(
        argv=(executable, "-p", prompt, "--dangerously-skip-permissions", *options),
        env={"IS_SANDBOX": "1", "CLAUDE_CONFIG_DIR": str(made(directory) / "claude"), **env},
    )
