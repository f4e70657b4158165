"""Claude Code (measured: 2.1.197 and 2.1.331)."""

from __future__ import annotations

from pathlib import Path

from .._rollout.rollout import Rollout
from ._launch import Launch, made

__all__ = ["claude_code"]


def claude_code(rollout: Rollout, directory: Path, prompt: str, *, executable: str = "claude") -> Launch:
    """`claude -p`, allowed to run its tools without asking.

    Writes nothing: the environment is enough. `IS_SANDBOX` lets it do so as root, too.
    """
    return Launch(
        argv=(executable, "-p", prompt, "--dangerously-skip-permissions"),
        env={"IS_SANDBOX": "1", "CLAUDE_CONFIG_DIR": str(made(directory) / "claude")},
    )
