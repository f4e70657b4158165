"""Moments and lengths of time, as formats want them."""

from __future__ import annotations

from datetime import UTC, datetime

from .._trace.turn import Turn


def iso_time(seconds: float) -> str:
    """A moment, in seconds since the epoch, as ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def ended_at(turn: Turn) -> float:
    """When a turn settled: seconds since the epoch."""
    return turn.started_at + turn.duration
