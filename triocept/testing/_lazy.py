"""What needs some of the server, or of the upstreams: loaded when it is first asked for.

So `import triocept` is not slower for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = {
    "MemoryAgent": "agent",
    "MemoryCall": "call",
    "Piece": "transport",
    "open_exchange": "exchange",
    "open_memory_agent": "agent",
    "open_rollout": "rollout",
}


def __getattr__(name: str) -> Any:
    """See PEP 562; `triocept.testing` has it.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _ROOMS:
        raise AttributeError(f"module 'triocept.testing' has no attribute {name!r}")
    return getattr(import_module(f"{__package__}._memory.{_ROOMS[name]}"), name)
