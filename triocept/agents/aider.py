"""Prepare the agent aider (tested with 0.86.2) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, made


def aider(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "aider") -> Launch:
    """Return the command that runs `aider --message` with the rollout as its model.

    aider uses chat completions without tools: the model writes whole files in the text of its answers.

    No file is written, and `directory` becomes aider's HOME. The command disables commits, because each commit message
    would need another model call. If there is no git repository, aider creates one. The exit status of aider is 0 even
    if the model call failed.
    """
    refuse_gate(rollout, "aider")
    return Launch(
        argv=(executable, "--model", f"openai/{rollout.model}", *_OPTIONS, "--message", prompt),
        env={"HOME": str(made(directory))},
    )


_OPTIONS = (
    *("--edit-format", "whole", "--yes-always", "--no-auto-commits", "--no-dirty-commits"),
    *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--no-analytics"),
)
