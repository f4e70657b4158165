"""The environment of this process, pointed at a rollout for as long as a block runs.

Rules:

1. What was there before is put back exactly, whatever the block has made of it.
2. Blocks nest; those that overlap otherwise (fixtures of two scopes) may end in any order.
3. What would lead past the rollout is taken out, and a proxy is told to leave this machine alone. All else stays: it is
   the application's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._process.environment import agent_environment

__all__ = ["environment", "pointed"]

_lock = threading.Lock()
_layers: list[dict[str, str | None]] = []
"""What each block that is open has found, the newest last; None: there was nothing."""


def environment(rollout: Mapping[str, str]) -> dict[str, str | None]:
    """What is changed here so that SDKs of every dialect call a rollout; None takes a variable out.

    Args:
        rollout: its own variables, `Rollout.environ`.
    """
    own = {name: value for name, value in rollout.items() if name not in _LEFT_ALONE}
    proxied = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy") if name in os.environ}
    return {**dict.fromkeys(_TAKEN_OUT), **agent_environment(proxied, own)}


_LEFT_ALONE = frozenset({"OPENAI_MODEL", "COPILOT_MODEL", "LLM_MODEL", "ANTHROPIC_AUTH_TOKEN"})
"""What an agent is told, and an application is not: which model it asks for is its own affair; and the Anthropic SDK
prints a warning where it finds a token beside the key (2.14)."""
_TAKEN_OUT = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "GOOGLE_GENAI_USE_ENTERPRISE",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_OPENAI_ENDPOINT",
)
"""What would lead an SDK past the rollout, or make it send a real key along."""


@contextmanager
def pointed(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Have the environment changed so for as long as the block runs."""
    found: dict[str, str | None] = {}
    try:
        try:
            with _lock:
                found.update((name, os.environ.get(name)) for name in changes)
                _layers.append(found)
                _set(changes)
            yield
        finally:
            _put_back(found)
    finally:  # what a Ctrl-C has cut short; else nothing
        _put_back(found)


def _put_back(found: dict[str, str | None]) -> None:
    """To what a block has found; a newer one that is still open is to find that in its place."""
    with _lock:
        number = next((n for n, layer in enumerate(_layers) if layer is found), None)
        if number is None:  # a Ctrl-C came before anything was changed
            return
        newer = _layers[number + 1 :]
        for name, value in found.items():
            above = next((layer for layer in newer if name in layer), None)
            if above is not None:
                above[name] = value
            else:
                _set({name: value})
        del _layers[number]


def _set(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
