"""Prepare the agent cline, a command-line tool (tested with 3.0.65), for a rollout."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._rollout.rollout import Rollout, refuse_gate
from ._launch import Directory, Launch, made, write_json

Dialect: TypeAlias = Literal["openai_chat", "openai_responses"]
_PROVIDERS: dict[str, str] = {"openai_chat": "openai-compatible", "openai_responses": "openai-native"}


def cline(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "cline",
    dialect: Dialect = "openai_chat",
) -> Launch:
    """Return the command that runs `cline` without confirmation of its tools, with the rollout as its provider.

    The function writes `cline/settings/providers.json`, as `cline auth` does, and `global-settings.json`, which
    disables cline's telemetry. cline stores its state in the same directory. Although telemetry is disabled, cline
    sends one request to its vendor, for feature flags.

    Args:
        dialect: dialect in which cline calls the rollout: chat completions or the Responses API.
    """
    refuse_gate(rollout, "cline")
    data, provider = made(directory) / "cline", _PROVIDERS[dialect]
    settings = {
        "provider": provider,
        "apiKey": rollout.api_key,
        "model": rollout.model,
        "baseUrl": rollout.base_url(dialect),
    }
    entry = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    write_json(
        data / "settings" / "providers.json",
        {"version": 1, "lastUsedProvider": provider, "modes": {}, "providers": {provider: entry}},
    )
    quiet = write_json(
        data / "settings" / "global-settings.json", {"telemetryOptOut": True, "autoUpdateEnabled": False}
    )
    return Launch(
        argv=(executable, "--data-dir", str(data), prompt),
        env={"CLINE_GLOBAL_SETTINGS_PATH": str(quiet), "CLINE_NO_AUTO_UPDATE": "1"},
    )
