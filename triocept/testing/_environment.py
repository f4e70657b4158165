"""Set environment variables of this process, so that LLM clients call a rollout while a `with` block runs.

Rules:

1. The earlier values are restored exactly, whatever the block has changed.
2. Blocks may nest. Blocks that overlap without nesting (fixtures of two scopes) may end in any order.
3. Variables that would make an SDK call another server are removed. For this machine's addresses, proxies are disabled.
   All other variables belong to the application, and stay unchanged.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final
from urllib.parse import urlsplit

from .._process.environment import agent_environment
from .._rollout.registry import Refusals
from .._rollout.rollout import Rollout, other_requests, refusals, stray_refusals

_lock = threading.Lock()
_layers: list[dict[str, str | None]] = []
"""For each open block, newest last: the values that the variables had before the block. None means that a variable was
not set."""
_targets: list[Target] = []
"""The open models, newest last."""


@final
class Target:
    """An open fake model, to which environment variables can point.

    Args:
        name: name of the model in error texts if several models are open.
        rollout: rollout of the model.
    """

    def __init__(self, name: str, rollout: Rollout) -> None:
        self.name = name
        self._rollout = rollout
        self.is_one_of_several: bool = False
        """True if another model was open at the same time."""
        self._led = False
        self._left_for: Target | None = None
        self._stray_before = stray_refusals(rollout).count

    def open(self) -> None:
        with _lock:
            self.is_one_of_several = bool(_targets)
            for other in _targets:
                other.is_one_of_several = True
            _targets.append(self)

    def lead(self) -> None:
        """Record that the environment variables now point to this model, and no longer to another model."""
        with _lock:
            self._led = True
            for other in _targets:
                if other is not self:
                    other._left_for = self

    def close(self) -> None:
        with _lock:
            if self in _targets:
                _targets.remove(self)

    def why_no_call(self) -> str:
        """Return the probable reason why the model received no call, for an error text."""
        if refused := _listed(refusals(self._rollout), 0):
            return f"no call was accepted; {refused}"
        if others := other_requests(self._rollout):
            takes = "takes" if len(others) == 1 else "take"
            return f"no model call came, only {', '.join(others)}, which {takes} no reply"
        if blocked := self._blocked():
            return (
                f"no call came at all: something blocks connections to the endpoint ({blocked}). Allow this machine: "
                "pass --allowed-hosts=127.0.0.1 (pytest-recording) or --allow-hosts=127.0.0.1 (pytest-socket)"
            )
        stray = _listed(stray_refusals(self._rollout), self._stray_before)
        if not self._led:
            why = "does the application run with the variables of `model.environ()`?"
        elif self._left_for is not None:
            why = f"the environment led to {self._left_for.name}, which was opened after {self.name};"
        else:
            why = "was the client built before the model, or with its own base_url? Clients read the environment once;"
        what = "no call came with the key of this model" if stray else "no call came at all"
        rest = f". Some requests had a key of no open model: {stray}" if stray else ""
        return f"{what}: {why} `model.client(dialect)` returns a client of this model{rest}"

    def _blocked(self) -> str:
        """Return the error with which a plugin (pytest-socket) blocks connections to the endpoint, or an empty text."""
        place = urlsplit(self._rollout.environ()["TRIOCEPT_URL"])
        try:
            family = socket.AF_INET6 if ":" in (place.hostname or "") else socket.AF_INET
            with socket.socket(family) as probe:
                probe.settimeout(1)
                probe.connect((place.hostname, place.port))
        except OSError:  # for example, the endpoint has ended
            return ""
        except Exception as exc:  # noqa: BLE001  # blockers raise errors of their own
            return f"{type(exc).__name__}: {exc}"
        return ""


def _listed(refused: Refusals, before: int) -> str:
    """Return a text that lists the refused requests, without the first `before` requests, and the reasons.

    If there is no such request, return an empty text.
    """
    count, newest = refused.count - before, Counter(refused.newest(before))
    if not count:
        return ""
    what = "the endpoint refused 1 request" if count == 1 else f"the endpoint refused {count} requests"
    if count > newest.total():
        what += f", the newest {newest.total()}"
    texts = (text if times == 1 else f"{text} ({times} times)" for text, times in newest.items())
    return f"{what}: {'; '.join(texts)}"


def environment(rollout: Mapping[str, str]) -> dict[str, str | None]:
    """Return the environment variables to set, so that all SDKs call the rollout. None means to remove the variable.

    `rollout` contains the variables of the rollout, as its method `environ` returns them.
    """
    own = {name: value for name, value in rollout.items() if name not in _LEFT_ALONE}
    proxied = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy") if name in os.environ}
    return {**dict.fromkeys(_TAKEN_OUT), **agent_environment(proxied, own)}


_LEFT_ALONE = frozenset({"OPENAI_MODEL", "COPILOT_MODEL", "LLM_MODEL", "ANTHROPIC_AUTH_TOKEN"})
"""Variables that are set for agents, but not for an application. An application chooses its own model. If both a token
and a key are set, the Anthropic SDK (2.14) prints a warning."""
_TAKEN_OUT = (
    *("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"),
    *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
    *("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI"),
    *("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT"),
)
"""Variables that would make an SDK call a server other than the rollout's, or send a real API key."""


@contextmanager
def pointed(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Apply `changes` to the environment variables of this process while the block runs."""
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
    finally:  # does nothing unless a Ctrl-C interrupted the restore
        _put_back(found)


def _put_back(found: dict[str, str | None]) -> None:
    """Restore `found`, the values that the variables had before a block.

    If a newer block is still open, that block restores these values when it ends.
    """
    with _lock:
        number = next((n for n, layer in enumerate(_layers) if layer is found), None)
        if number is None:  # a Ctrl-C arrived before any change
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
