"""Prepare the agent qwen-code (tested with 0.15.10 and 0.24.4) for a rollout."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._hooks import gemini_hooks
from ._launch import Directory, Launch, made, write_json
from ._mcp import qwen_servers

_PROVIDERS = ("openai", "anthropic", "gemini", "vertex-ai", "qwen-oauth")
_MODELS = ("fastModel", "advisorModel", "compactionModel", "visionModel", "modelFallbacks")
"""Settings for other models, which could be those of another provider. If they are empty, qwen-code uses its model."""


def qwen_code(rollout: Rollout, directory: Directory, prompt: str, *, executable: str = "qwen") -> Launch:
    """Return the command that runs `qwen -p` without confirmation of its tools.

    `directory` becomes qwen-code's HOME. The function writes `settings.json`, which overrides all other settings of
    qwen-code: the rollout is its only provider. If the rollout has a gate, the function also writes `gate.py`; the
    user's own hooks still run. qwen-code gives up if the headers of an answer do not arrive within 120 s.
    """
    directory = made(directory)
    servers, env = qwen_servers(rollout)
    settings = {
        "model": {"name": rollout.model},
        **dict.fromkeys(_MODELS, ""),
        "agents": {"builtin": {"exploreModel": "inherit"}},
        "modelProviders": {key: [] for key in _PROVIDERS},  # in place of the user's, each on its own
        **servers,
        **gemini_hooks(rollout, directory, "qwen_code"),
    }
    system = write_json(directory / "settings.json", settings)
    return Launch(
        argv=(executable, "-p", prompt, "--yolo", "--auth-type", "openai"),
        env={
            "HOME": str(directory),
            "QWEN_CODE_SYSTEM_SETTINGS_PATH": str(system),
            "GOOGLE_VERTEX_BASE_URL": rollout.base_url("gemini"),  # for sub-agents with an own provider
            **env,
        },
    )
