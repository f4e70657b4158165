"""aider (measured: 0.86.2)."""

from __future__ import annotations

from pathlib import Path

from .._rollout.rollout import Rollout
from ._launch import Launch

__all__ = ["aider"]


def aider(rollout: Rollout, directory: Path, prompt: str, *, executable: str = "aider") -> Launch:
    """`aider --message`. It speaks chat completions without tools: its edits come out of the text, whole files.

    Writes nothing. It ends with 0 even if the model failed.
    """
    options = "--yes-always --no-check-update --no-show-model-warnings --no-analytics --edit-format whole"
    return Launch(
        argv=(executable, "--model", f"openai/{rollout.model}", *options.split(), "--message", prompt),
        env={"HOME": str(directory)},
    )
