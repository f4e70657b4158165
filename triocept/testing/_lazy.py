"""Import the names of `triocept.testing` that need the server on first use, so that the package is imported fast."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._moved import hints_of

_MODULES = {
    "MemoryAgent": "agent",
    "MemoryCall": "call",
    "Piece": "call",
    "open_exchange": "exchange",
    "open_memory_agent": "agent",
    "open_rollout": "rollout",
}
_hint = hints_of("triocept.testing")


def __getattr__(name: str) -> Any:
    """Import and return the object `name` of `triocept.testing` (PEP 562).

    If `name` was renamed, the error contains the new name.
    """
    if name not in _MODULES:
        _hint(name)
    return getattr(import_module(f"{__package__}._memory.{_MODULES[name]}"), name)
