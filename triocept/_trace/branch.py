"""The point where a child rollout leaves the trace of its parent."""

from __future__ import annotations

import msgspec


class Branch(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The point where a child rollout leaves the trace of its parent."""

    rollout: str
    """The parent's id."""
    run: str = ""
    """Run of the parent's id, as in `Trace.run`."""
    turns: int = 0
    """Number of turns in the parent's trace at that point."""
    service: str | None = None
    """Id of the parent's service call that opened the child; None: the program opened it."""
