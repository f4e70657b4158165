"""kimi-code, which wants Node 22.19 or newer (measured: 2.1.0)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout
from ._kimi import configuration
from ._launch import Directory, Launch, made, write_text

__all__ = ["kimi_code"]

Dialect: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic_messages"]
_TYPES: dict[str, str] = {
    "openai_chat": "openai",
    "openai_responses": "openai_responses",
    "anthropic_messages": "anthropic",
}


def kimi_code(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "kimi",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """`kimi -p`, with a provider of its own that is this rollout; with `-p` it asks for no permission.

    Writes `kimi-code/config.toml`, and keeps its state beside it.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat, responses or messages.
    """
    home = made(directory) / "kimi-code"
    write_text(home / "config.toml", configuration(rollout, dialect, _TYPES[dialect]))
    return Launch(
        argv=(executable, "-p", prompt),
        env={"KIMI_CODE_HOME": str(home), "KIMI_CODE_NO_AUTO_UPDATE": "1", "KIMI_DISABLE_TELEMETRY": "1"},
    )
