"""kimi-cli (measured: 1.39.0)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout
from ._kimi import configuration
from ._launch import Directory, Launch, made, write_text

__all__ = ["kimi_cli"]

Dialect: TypeAlias = Literal["openai_chat", "openai_responses", "gemini"]
_TYPES: dict[str, str] = {
    "openai_chat": "openai_legacy",
    "openai_responses": "openai_responses",
    "gemini": "gemini",
}


def kimi_cli(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "kimi",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """`kimi --print`, allowed to run its tools without asking, with a provider of its own that is this rollout.

    1.52.0 says that it is no longer maintained, and does nothing: its successor is `kimi_code`.

    Writes `kimi-cli/config.toml`, and keeps its state beside it.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat, responses or Gemini.
    """
    home = made(directory) / "kimi-cli"
    write_text(home / "config.toml", configuration(rollout, dialect, _TYPES[dialect]))
    return Launch(argv=(executable, "--print", "--yolo", "-p", prompt), env={"KIMI_SHARE_DIR": str(home)})
