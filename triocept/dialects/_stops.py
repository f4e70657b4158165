"""What the stop reason is, given the content.

Servers disagree with themselves: vLLM answers a named tool choice with "stop", others say "tool_calls" and
call none. So whether it is a tool turn is decided by the content.
"""

from __future__ import annotations

from .._canonical.response import StopReason

__all__ = ["settled_stop"]


def settled_stop(stop: StopReason | None, *, calls: bool) -> StopReason:
    """The stop reason of an answer that does or does not call tools."""
    if stop is None or stop in ("end", "tool_use"):
        return "tool_use" if calls else "end"
    return stop
