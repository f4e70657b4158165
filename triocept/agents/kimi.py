"""kimi-cli (measured: 1.39.0), and kimi-code, which came after it and wants Node 22.19 or newer (measured: 2.1.0)."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, UsualDialect, made, write_text

__all__ = ["kimi_cli", "kimi_code"]


CLIDialect: TypeAlias = Literal["openai_chat", "openai_responses", "gemini"]
_OF_CLI: dict[str, str] = {
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
    dialect: CLIDialect = "openai_chat",
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
    write_text(home / "config.toml", _configuration(rollout, dialect, _OF_CLI[dialect]))
    return Launch(argv=(executable, "--print", "--yolo", "-p", prompt), env={"KIMI_SHARE_DIR": str(home)})


_OF_CODE: dict[str, str] = {
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
    dialect: UsualDialect = "openai_chat",
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
    write_text(home / "config.toml", _configuration(rollout, dialect, _OF_CODE[dialect]))
    return Launch(
        argv=(executable, "-p", prompt),
        env={"KIMI_CODE_HOME": str(home), "KIMI_CODE_NO_AUTO_UPDATE": "1", "KIMI_DISABLE_TELEMETRY": "1"},
    )


def _configuration(rollout: Rollout, dialect: str, kind: str) -> str:
    """What their `config.toml` says; `kind` is their own name for the dialect."""
    return f"""default_model = "triocept"
telemetry = false

[models.triocept]
provider = "triocept"
model = {json.dumps(rollout.model)}
max_context_size = 128000

[providers.triocept]
type = "{kind}"
base_url = "{rollout.base_url(dialect)}"
api_key = "{rollout.api_key}"
"""
