"""llm (measured: 0.36)."""

from __future__ import annotations

from pathlib import Path

from .._rollout.rollout import Rollout
from ._launch import Launch, write_json

__all__ = ["llm"]


def llm(rollout: Rollout, directory: Path, prompt: str, *, executable: str = "llm") -> Launch:
    """`llm`, with a model of its own that is this rollout.

    Writes `llm/extra-openai-models.yaml` and `llm/keys.json`.
    """
    home = directory / "llm"
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
    return Launch(argv=(executable, "-m", rollout.model, prompt), env={"LLM_USER_PATH": str(home)})
