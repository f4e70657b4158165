"""Prepare the agent qwen-code (tested with 0.15.10 and 0.24.4) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._hooks import qwen_hooks
from ._launch import Directory, Launch, made, write_json
from ._mcp import qwen_servers


def qwen_code(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "qwen") -> Launch:
    """Return the command that runs `qwen -p` without confirmation of its tools.

    `directory` becomes qwen-code's HOME. If the rollout has tools, the function writes `.qwen/settings.json` into this
    directory. If the rollout has a gate, the function writes `gate.json` and `gate.py`; the user's own hooks still run.
    qwen-code gives up if the headers of an answer do not arrive within 120 s.
    """
    servers, env = qwen_servers(rollout)
    if servers:
        write_json(made(directory) / ".qwen" / "settings.json", servers)
    return Launch(
        argv=(executable, "-p", prompt, "--yolo", "--auth-type", "openai"),
        env={
            "OPENAI_MODEL": rollout.model,
            "HOME": str(made(directory)),
            **env,
            **qwen_hooks(rollout, directory),
        },
    )
