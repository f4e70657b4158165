"""Where a child rollout leaves the trace of its parent."""

from __future__ import annotations

import msgspec


class Branch(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Where a child rollout leaves the trace of its parent."""

    rollout: str
    """The parent's id."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    turns: int = 0
    """How many turns the parent's trace had."""
    service: str | None = None
    """The service call of the parent that opened the child, by its id; None: the program did."""
