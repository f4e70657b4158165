"""Prepare the agent llm (tested with 0.36) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, made, write_json, write_text

SHELL = '''import subprocess


def shell(command: str) -> str:
    """Run a shell command; what it wrote, and its exit code where that is not 0."""
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    code = f"\\n(exit code {done.returncode})" if done.returncode else ""
    return done.stdout + done.stderr + code
'''
"""Default for `functions`. llm has no built-in tools, so this code defines a tool that runs shell commands."""


def llm(
    rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "llm", functions: str = SHELL
) -> Launch:
    """Return the command that runs `llm`, with the rollout as its model, and a shell as its tool.

    The function writes `llm/extra-openai-models.yaml`, `llm/keys.json` and `llm/functions.py`.

    Args:
        functions: Python code. Each function in this code becomes a tool for the model. If the text is empty, the model
            has no tools.
    """
    refuse_gate(rollout, "llm")
    home = made(directory) / "llm"
    # JSON is YAML, too.
    write_json(
        home / "extra-openai-models.yaml",
        [
            {
                "model_id": rollout.model,
                "model_name": rollout.model,
                "api_base": rollout.base_url("openai_chat"),
                "api_key_name": "triocept",
                "supports_tools": True,
            }
        ],
    )
    write_json(home / "keys.json", {"triocept": rollout.api_key})
    tools = ("--functions", str(write_text(home / "functions.py", functions))) if functions else ()
    return Launch(argv=(executable, "-m", rollout.model, *tools, prompt), env={"LLM_USER_PATH": str(home)})
