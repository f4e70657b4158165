"""opencode (measured: 1.18.33)."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, made, write_json
from ._opencode import Dialect, configuration, state

__all__ = ["opencode"]


def opencode(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "opencode",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """`opencode run`, with a provider of its own that is this rollout.

    Its `--title` keeps it from a call for one beside the first.

    Writes `opencode.json`, and keeps its state in `directory`.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat, responses or messages.
    """
    directory = made(directory)
    config = write_json(directory / "opencode.json", configuration(rollout, dialect))
    return Launch(
        argv=(executable, "run", "--title", "triocept", prompt),
        env={"OPENCODE_CONFIG": str(config), **state(directory)},
    )
