"""Prepare opencode (tested with 1.18.33), or kilo (7.7.7), which was derived from opencode, for a rollout."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from .._rollout.rollout import Rollout, refuse_gate
from ._hooks import opencode_hooks
from ._launch import Directory, Launch, UsualDialect, made, write_json
from ._mcp import opencode_servers


def opencode(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "opencode",
    dialect: UsualDialect = "openai_chat",
) -> Launch:
    """Return the command that runs `opencode run`, with the rollout as its only provider.

    The command has the option `--title`. Without this option, opencode would generate a title by a second model call,
    at the same time as the first model call.

    The function writes `opencode.json` and, if the rollout has a gate, the plugin `gate.js`. opencode keeps its state
    in `directory`.
    """
    configuration = {**_configuration(rollout, dialect), **opencode_hooks(rollout, directory)}
    return _launch(directory, (executable, "run"), prompt, "opencode", configuration)


def kilo(
    rollout: Rollout,
    directory: Directory,
    prompt: str,
    *,
    executable: str = "kilo",
    dialect: UsualDialect = "openai_chat",
) -> Launch:
    """Return the command that runs `kilo run --auto`, with the rollout as its only provider.

    The command has the same options as that of `opencode`. Environment variables disable kilo's telemetry. The function
    writes `kilo.json`. kilo keeps its state in `directory`.
    """
    refuse_gate(rollout, "kilo")
    argv = (executable, "run", "--auto")
    launch = _launch(directory, argv, prompt, "kilo", _configuration(rollout, dialect))
    return replace(launch, env={**launch.env, **_QUIET})


def _launch(
    directory: Directory, argv: tuple[str, ...], prompt: str, name: str, configuration: dict[str, Any]
) -> Launch:
    """Write the configuration to `NAME.json`, and return the command `argv` with the options that both agents have."""
    folder = made(directory)
    config = write_json(folder / f"{name}.json", configuration)
    state = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("DATA", "CACHE", "STATE", "CONFIG")}
    return Launch(
        argv=(*argv, "--model", configuration["model"], "--title", "triocept", prompt),
        env={f"{name.upper()}_CONFIG": str(config), **state},
    )


_QUIET = {"KILO_TELEMETRY_LEVEL": "off", "KILO_DISABLE_MODELS_FETCH": "1", "KILO_DISABLE_SESSION_INGEST": "1"}
_PROVIDERS: dict[str, str] = {
    "openai_chat": "@ai-sdk/openai-compatible",
    "openai_responses": "@ai-sdk/openai",
    "anthropic_messages": "@ai-sdk/anthropic",
}


def _configuration(rollout: Rollout, dialect: UsualDialect) -> dict[str, Any]:
    base = rollout.base_url(dialect)
    options = {
        "baseURL": base if base.endswith("/v1") else f"{base}/v1",  # the AI SDK adds no /v1 itself
        "apiKey": rollout.api_key,
    }
    provider = {
        "npm": _PROVIDERS[dialect],
        "options": options,
        "models": {rollout.model: {"limit": {"context": 128000, "output": 8192}}},
    }
    return {
        "model": f"triocept/{rollout.model}",
        "small_model": f"triocept/{rollout.model}",
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": ["triocept"],  # also disables the user's own providers
        "provider": {"triocept": provider},
        **opencode_servers(rollout),
    }
