"""kilo (measured: 7.7.7)."""

from __future__ import annotations

from .._rollout.rollout import Rollout
from ._launch import Directory, Launch, made, write_json
from ._opencode import Dialect, configuration, state

__all__ = ["kilo"]


def kilo(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "kilo",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """`kilo run --auto`, with a provider of its own that is this rollout.

    Its `--title` keeps it from a call for one beside the first, its environment from telling its maker.

    Writes `kilo.json`, and keeps its state in `directory`.

    Args:
        rollout: whose calls it makes.
        directory: where its configuration and its state go.
        prompt: what it is to do.
        executable: its command.
        dialect: what it is to speak: chat, responses or messages.
    """
    directory = made(directory)
    config = write_json(
        directory / "kilo.json", {**configuration(rollout, dialect), "enabled_providers": ["triocept"]}
    )
    return Launch(
        argv=(executable, "run", "--auto", "--title", "triocept", prompt),
        env={"KILO_CONFIG": str(config), **_QUIET, **state(directory)},
    )


_QUIET = {"KILO_TELEMETRY_LEVEL": "off", "KILO_DISABLE_MODELS_FETCH": "1", "KILO_DISABLE_SESSION_INGEST": "1"}
