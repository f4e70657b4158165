"""The hooks of agents that ask the rollout's gate (`open_rollout(gate=…)`, `approve`), in the agents' configuration.

Each agent takes them in a place of its own, beside the user's hooks. Nothing is written if the rollout needs no gate.
No file contains the key: the agents give their environment to their hooks.
"""

from __future__ import annotations

from .._rollout.hooks import HOOKS
from .._rollout.rollout import Rollout, take_hook
from ._launch import Directory, made, write_json

SECONDS = 7 * 24 * 3600
"""Time-out of a hook: a person may decide. After its time-out an agent runs the tool."""


def claude_hooks(rollout: Rollout, directory: Directory) -> tuple[str, ...]:
    """Return options for Claude Code. Write `gate.json`.

    An http hook needs no program. `onFailure` (since 2.1.295) blocks a tool whose hook fails. Older versions run it,
    and the gate ends the rollout then.
    """
    if not (events := take_hook(rollout, HOOKS["claude_code"])):
        return ()
    hook = {
        "type": "http",
        "url": rollout.service_url("gate/claude_code"),
        "headers": {"Authorization": "Bearer $TRIOCEPT_API_KEY"},
        "allowedEnvVars": ["TRIOCEPT_API_KEY"],
        "timeout": SECONDS,
        "onFailure": "block",
    }
    names = {"before": "PreToolUse", "after": "PostToolUse"}
    hooks = {names[event]: [{"matcher": "*", "hooks": [hook]}] for event in events}
    return ("--settings", str(write_json(made(directory) / "gate.json", {"hooks": hooks})))
