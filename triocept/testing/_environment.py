"""The environment of this process, pointed at a rollout for as long as a block runs.

Rules:

1. What was there before is put back exactly, whatever the block has made of it.
2. Blocks nest; those that overlap otherwise (fixtures of two scopes) may end in any order.
3. What would lead past the rollout is taken out, and a proxy is told to leave this machine alone. All else stays: it is
   the application's own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final
from urllib.parse import urlsplit

from .._process.environment import agent_environment
from .._rollout.rollout import Rollout, last_refusal

_lock = threading.Lock()
_layers: list[dict[str, str | None]] = []
"""What each block that is open has found, the newest last; None: there was nothing."""
_targets: list[Target] = []
"""The models that are open, the newest last."""


@final
class Target:
    """A model, as somewhere that the environment may lead to.

    Args:
        name: what a message calls it, where there are several.
        rollout: the model's own.
    """

    def __init__(self, name: str, rollout: Rollout) -> None:
        self.name = name
        self._rollout = rollout
        self.is_one_of_several: bool = False
        """Whether another one was open at the same time."""
        self._led = False
        self._left_for: Target | None = None

    def open(self) -> None:
        """It can be called from now on."""
        with _lock:
            self.is_one_of_several = bool(_targets)
            for other in _targets:
                other.is_one_of_several = True
            _targets.append(self)

    def lead(self) -> None:
        """The environment leads to it from now on, and to no other."""
        with _lock:
            self._led = True
            for other in _targets:
                if other is not self:
                    other._left_for = self

    def close(self) -> None:
        """It cannot be called any more."""
        with _lock:
            if self in _targets:
                _targets.remove(self)

    def why_no_call(self) -> str:
        """What may be the reason why none came."""
        if refused := last_refusal(self._rollout):
            return f"what came was refused before it became a call, the last one so: {refused}"
        if blocked := self._blocked():
            return (
                f"no call came at all: something blocks connections to the endpoint ({blocked}). Allow this machine: "
                "--allowed-hosts=127.0.0.1 of pytest-recording, --allow-hosts=127.0.0.1 of pytest-socket"
            )
        if not self._led:
            why = "the environment leads here where `model.environ()` is put there"
        elif self._left_for is not None:
            why = f"the environment led to {self._left_for.name}, which was opened after {self.name}"
        else:
            why = "was the client built before the model, or with a base_url of its own? It reads the "
            why += "environment when it is made"
        return f"no call came at all: {why}; `model.client(dialect)` makes one that leads here"

    def _blocked(self) -> str:
        """Return what a network blocker raises for a connection to the endpoint; nothing if none does."""
        place = urlsplit(self._rollout.environ()["TRIOCEPT_URL"])
        try:
            family = socket.AF_INET6 if ":" in (place.hostname or "") else socket.AF_INET
            with socket.socket(family) as probe:
                probe.settimeout(1)
                probe.connect((place.hostname, place.port))
        except OSError:  # the endpoint has ended, say
            return ""
        except Exception as exc:  # noqa: BLE001  # blockers raise errors of their own
            return f"{type(exc).__name__}: {exc}"
        return ""


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
    *("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"),
    *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
    *("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI"),
    *("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT"),
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
